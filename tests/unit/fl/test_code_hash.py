"""The hash of a model's code: it follows what is trained and the code that trains it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import fl.training  # noqa: F401 - loads what it reaches
from fl import code_hash
from fl.code_hash import model_code_hash, reached_modules, training_code_hash
from fl.spec import ModelSpec

CONTENT: Final[dict[str, Any]] = {
    "name": "breast-cancer",
    "architecture": {"kind": "mlp", "hidden": [4]},
    "contract": {
        "columns": [{"name": "radius", "minimum": 0, "maximum": 30}],
        "label": {"name": "malignant"},
    },
}
SPEC: Final = ModelSpec.model_validate(CONTENT)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of one module, which can be changed, in place of the installed one."""
    installed = reached_modules()
    copy = tmp_path / "training.py"
    copy.write_bytes(installed["fl.training"].read_bytes())
    monkeypatch.setattr(code_hash, "reached_modules", lambda: installed | {"fl.training": copy})
    training_code_hash.cache_clear()
    yield copy
    training_code_hash.cache_clear()


def test_name_and_description_do_not_enter() -> None:
    other = SPEC.model_copy(update={"name": "other", "description": "Another."})
    assert model_code_hash(other) == model_code_hash(SPEC)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": {"kind": "mlp", "hidden": [5]}},
        {"architecture": {"kind": "logistic"}},
        {"hyperparameters": {"learning_rate": 0.25}},
        {"contract": {**CONTENT["contract"], "label": {"name": "benign"}}},
    ],
)
def test_whatever_is_trained_otherwise_has_another_hash(change: dict[str, Any]) -> None:
    assert model_code_hash(ModelSpec.model_validate(CONTENT | change)) != model_code_hash(SPEC)


def test_changed_source_has_another_hash_in_the_next_process(source: Path) -> None:
    before = model_code_hash(SPEC)
    source.write_bytes(source.read_bytes() + b"\n")
    assert model_code_hash(SPEC) == before  # this process still runs what it has loaded
    training_code_hash.cache_clear()
    assert model_code_hash(SPEC) != before


def test_what_handles_rows_and_updates_is_reached_and_nothing_of_the_coordinator() -> None:
    found = set(reached_modules())
    assert {
        *("fl", "fl.client", "fl.training", "fl.private_step", "fl.factored", "fl.architectures"),
        *(
            "fl.data",
            "fl.encoding",
            "fl.sources.images",
            "fl.split",
            "fl.evaluation",
            "fl.installed",
            "fl.architectures.custom",
        ),
        *("privacy.noise", "privacy.secagg.masking"),
    } <= found
    assert "fl.strategies" not in found


def test_every_reached_module_that_is_loaded_is_the_file_that_was_hashed() -> None:
    hashed = reached_modules()
    loaded = {name: Path(str(sys.modules[name].__file__)) for name in hashed if name in sys.modules}
    assert loaded.keys() >= {"fl.training", "fl.private_step"}
    assert loaded.items() <= hashed.items()
