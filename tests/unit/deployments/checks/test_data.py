"""The table against registered models, and a private step that leaves nothing behind."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.checks import data
from deployments.checks.data import check_data, in_child
from deployments.checks.report import Place
from fl.spec import ModelSpec
from tasks.hospital.exchange import ExchangeClient, OfferedModel
from tasks.hospital.site import open_ledger

SPEC = {
    "name": "fitting",
    "architecture": {"kind": "mlp", "hidden": [4]},
    "contract": {
        "columns": [{"name": "radius", "minimum": 0, "maximum": 30}],
        "label": {"name": "malignant"},
    },
}


def model(named: str, version: int = 1, **column: Any) -> OfferedModel:
    spec = ModelSpec.model_validate(SPEC | {"name": named})
    changed = spec.contract.columns[0].model_copy(update=column)
    contract = spec.contract.model_copy(update={"columns": (changed,)})
    return OfferedModel(
        name=named, version=version, spec=spec.model_copy(update={"contract": contract})
    )


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> list[OfferedModel]:
    models: list[OfferedModel] = []

    class Exchange:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def models(self) -> Any:
            return tuple(models)

    monkeypatch.setattr(ExchangeClient, "connect", lambda *_, **__: Exchange())
    return models


@pytest.fixture
def table(place: Place) -> Path:
    path = place.settings.data_path
    rows = [f"{fifths / 5},{int(fifths > 75)}" for fifths in range(5, 125)]
    path.write_text("\n".join(["radius,malignant", *rows]))
    return path


def test_a_model_that_fits_is_tried_and_one_that_does_not_is_explained(
    place: Place, offered: list[OfferedModel], table: Path, states: Any
) -> None:
    offered += [
        model("old", 1, name="no longer there"),
        model("old", 2),
        model("other", name="texture"),
        model("narrow", maximum=10),
    ]
    before = {path: path.read_bytes() for path in place.settings.hospital_home.rglob("*.db")}
    found = list(check_data(place))
    lines = [finding.text for finding in found]
    assert lines[0] == "does not fit narrow version 1: radius: out-of-range (74)"
    assert lines[1] == "fits old version 2: 120 rows, 49 positive"
    assert lines[2].startswith("a private step of old version 2 took ")
    assert lines[3].startswith("does not fit other version 1: texture: missing-column")
    assert states(found) == ["warn", "ok", "ok", "warn"]
    assert not open_ledger(place.settings).verified()  # nothing is charged
    for path, content in before.items():
        assert path.read_bytes() == content


def test_a_table_of_one_class(
    place: Place, offered: list[OfferedModel], table: Path, states: Any
) -> None:
    table.write_text("radius,malignant\n" + "\n".join(f"{i / 10},0" for i in range(120)))
    offered.append(model("m"))
    found = list(check_data(place))
    assert states(found) == ["ok", "warn", "ok"]
    assert found[1].text.startswith("m version 1: one class only")


def test_without_a_table_or_a_model_it_is_said_what_to_do(
    place: Place, offered: list[OfferedModel], states: Any
) -> None:
    (unnamed,) = check_data(replace(place, data_path=None))
    assert "`fedmed hospital check --data-path DIR`" in unnamed.text
    (missing,) = check_data(place)
    assert "is not there: mount it" in missing.text
    place.settings.data_path.touch()
    assert states(check_data(place)) == ["warn"]


def test_a_table_that_does_not_fit_is_told_what_may_be_wrong_with_its_unit(
    place: Place, offered: list[OfferedModel], table: Path, states: Any
) -> None:
    rows = "\n".join(f"{100 + i},{i % 2}" for i in range(120))
    table.write_text(f"radius,malignant\n{rows}")
    offered.append(model("m"))
    found = list(check_data(place))
    assert states(found) == ["warn", "warn"]
    assert "off by a slip of the decimal point" in found[1].text


def test_a_trial_that_ends_badly_is_named(
    place: Place,
    offered: list[OfferedModel],
    table: Path,
    states: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    offered.append(model("m"))

    def breaks(*_: object, **__: object) -> dict[str, Any]:
        raise RuntimeError("no memory")

    monkeypatch.setattr(data, "hold", breaks)
    (found,) = check_data(place)
    assert (found.state, found.text) == (
        "fail",
        "m version 1: the trial ended with code 1; its error is above",
    )
    assert "RuntimeError: no memory" in capfd.readouterr().err


def test_a_trial_that_is_killed_is_a_finding() -> None:
    def killed() -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    assert "too little memory" in in_child(killed)["ended"]
