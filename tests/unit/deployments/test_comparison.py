"""``fedmed compare``: figures of each setting, on public rows alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from deployments.comparison import Setting, compare, deals, settings
from deployments.errors import OperatorError
from fl.architecture_spec import Logistic, Mlp
from fl.contract import DataContract, Label, NumberColumn
from fl.spec import ModelSpec
from fl.table import Table

CONTRACT = DataContract(
    columns=tuple(NumberColumn(name=f"x{i}", minimum=-5, maximum=5) for i in range(3)),
    label=Label(name="y"),
)
SPEC = ModelSpec(name="m", architecture=Logistic(), contract=CONTRACT)


def frame(rows: int, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (rows, 3)).clip(-5, 5)
    y = (x[:, 0] - x[:, 1] + 0.3 * rng.standard_normal(rows) > 0).astype(int)
    return pd.DataFrame({**{f"x{i}": x[:, i] for i in range(3)}, "y": y})


def hospital(rows: int, seed: int) -> Table:
    made = frame(rows, seed=seed)
    features = made[["x0", "x1", "x2"]].to_numpy(np.float32) / 5
    return Table(features, made["y"].to_numpy(np.float32))


def test_settings_are_named_and_ordered() -> None:
    names = [setting.name for setting in settings((8, 1), noise_shares=2)]
    assert names == [
        "local-only",
        "federated, epsilon 1, local noise",
        "federated, epsilon 8, local noise",
        "federated, epsilon 1, noise shared under the sum",
        "federated, epsilon 8, noise shared under the sum",
        "federated, without privacy",
        "pooled",
    ]


def test_test_rows_are_all_hospitals_and_none_is_trained_on() -> None:
    hospitals = [hospital(90, seed) for seed in range(3)]
    for deal in deals(hospitals, repeats=2, seed=0):
        trained = {row.tobytes() for table in deal.hospitals for row in table.features}
        assert sum(map(len, deal.hospitals)) + len(deal.test) == 270
        assert not trained & {row.tobytes() for row in deal.test.features}


@pytest.mark.parametrize("architecture", [Logistic(), Mlp(hidden=(8,))])
def test_a_federation_without_noise_comes_near_the_pooled_model(architecture: Any) -> None:
    spec = SPEC.model_copy(update={"architecture": architecture})
    made = list(deals([hospital(200, 1), hospital(60, 2), hospital(20, 3)], repeats=1, seed=0))
    chosen = (Setting("federated"), Setting("pooled"), Setting("local-only"))
    found = {r.setting.kind: r.auc[0] for r in compare(spec, made, chosen, delta=1e-5)}
    assert found["federated"] > 0.95
    assert abs(found["federated"] - found["pooled"]) < 0.03


def test_noise_costs_and_the_same_seed_gives_the_same() -> None:
    made = list(deals([hospital(60, seed) for seed in range(3)], repeats=3, seed=0))
    chosen = (Setting("federated", 0.05), Setting("federated", 8.0))
    first, second = (list(compare(SPEC, made, chosen, delta=1e-5)) for _ in range(2))
    assert first == second
    tight, loose = (float(np.mean(result.auc)) for result in first)
    assert tight < loose


class TestCommand:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        path = tmp_path / "contract.yaml"
        path.write_text(yaml.safe_dump(CONTRACT.model_dump(mode="json", exclude_none=True)))
        return path

    @pytest.fixture
    def tables(self, tmp_path: Path) -> list[str]:
        paths = [tmp_path / f"h{number}.csv" for number in range(3)]
        for number, path in enumerate(paths):
            frame(80, seed=number).to_csv(path, index=False)
        return [str(path) for path in paths]

    def test_it_shows_and_writes_what_it_found(
        self, fedmed: Any, model: Path, tables: list[str], tmp_path: Path
    ) -> None:
        output = tmp_path / "out"
        done = fedmed(
            *("compare", *tables, "--model", str(model), "--public-data"),
            *("--epsilon", "4", "--repeats", "2", "--output", str(output)),
        )
        assert done.exit_code == 0, done.exception
        assert "federated, epsilon 4, local noise" in done.stdout
        written = json.loads((output / "comparison.json").read_text())
        assert [one["kind"] for one in written["results"]] == [
            *("local-only", "federated", "federated", "pooled")
        ]
        assert all(len(one["auc"]) == 2 for one in written["results"])
        assert (output / "comparison.png").read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((), "--public-data"),
            (("--public-data", "--epsilon", "0.00001"), "epsilon"),
        ],
    )
    def test_a_mistake_is_refused(
        self, fedmed: Any, model: Path, tables: list[str], arguments: tuple[str, ...], said: str
    ) -> None:
        done = fedmed("compare", *tables, "--model", str(model), *arguments)
        assert isinstance(done.exception, OperatorError)
        assert said in str(done.exception)

    def test_two_hospitals_are_no_federation(
        self, fedmed: Any, model: Path, tables: list[str]
    ) -> None:
        done = fedmed("compare", *tables[:2], "--model", str(model), "--public-data")
        assert isinstance(done.exception, OperatorError)
        assert "2 hospitals" in str(done.exception)

    def test_rows_that_break_the_contract_are_named_by_rule(
        self, fedmed: Any, model: Path, tables: list[str]
    ) -> None:
        Path(tables[1]).write_text("x0,x1,x2,y\n77,0,0,1\n")
        done = fedmed("compare", *tables, "--model", str(model), "--public-data")
        assert isinstance(done.exception, OperatorError)
        assert "x0: out-of-range" in str(done.exception)
        assert "77" not in str(done.exception)
