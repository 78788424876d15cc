"""The benchmark's figures, from what the demos and the floor have measured."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.bench import rounds
from deployments.bench.held_out import HeldOut
from deployments.bench.rounds import DemoRun, FloorRun, figures, free_ports, run_demo, run_floor
from deployments.demo import DemoReport
from deployments.settings import StackSettings


def a_demo(auc: float | None, *, median: float) -> DemoReport:
    return DemoReport(
        rounds=3,
        hospitals=3,
        wall_s=30.0,
        round_s=[9.0, median, median],
        round_median_s=median,
        round_period_s=median + 0.5,
        stack_start_s=5.0,
        peak_memory_mb=2000.0,
        auc=auc,
        accuracy=0.9,
        epsilon=7.9,
        delta=1e-5,
        mlflow_run_id="r",
        model_name="m",
        model_version="1",
        addresses={},
    )


def a_run(auc: float | None, *, median: float) -> DemoRun:
    return DemoRun(a_demo(auc, median=median), HeldOut(auc=0.99, accuracy=0.95))


def test_the_first_round_of_each_run_is_left_out_of_the_median() -> None:
    demos = [a_run(0.9, median=m) for m in (1.0, 1.2, 1.4)]
    made = {f.figure: f for f in figures(demos, [FloorRun((9.0, 0.1, 0.3))])}
    assert made["median round after the first"].value == 1.2
    assert made["median round after the first"].repeats == 3
    assert made["median round of the floor, one plain process"].value == 0.2
    assert made["median from one round's opening to the next"].value == 1.7


def test_a_run_without_an_auc_counts_as_zero() -> None:
    demos = [a_run(auc, median=1.0) for auc in (0.98, None)]
    made = {f.figure: f for f in figures(demos, [FloorRun((0.1, 0.1))])}
    assert made["AUC as the platform sees it, through noised counts, mean of seeds"].value == 0.49
    auc = made["AUC on held-out rows, mean of seeds"]
    assert (auc.value, auc.is_met) == (0.99, True)


def testfree_ports_differ() -> None:
    assert len(set(free_ports(3))) == 3


def test_the_floor_trains_the_same_rounds_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "ROUNDS", 2)
    floor = run_floor(0)
    assert len(floor.round_s) == 2
    assert all(0 < seconds < 60 for seconds in floor.round_s)


def test_each_demo_starts_from_an_empty_directory_onfree_ports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environments: list[dict[str, str]] = []

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> Any:
        assert command[2:4] == ["deployments.cli", "demo"]
        home = Path(env["FEDMED_HOME"])
        assert list(home.iterdir()) == []
        (home / "demo").mkdir()
        (home / "demo" / "report.json").write_text(a_demo(0.9, median=1.0).model_dump_json())
        environments.append(env)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(rounds.subprocess, "run", run)
    monkeypatch.setattr(rounds, "exact_figures", lambda home: HeldOut(auc=0.99, accuracy=0.95))
    assert run_demo(0) == run_demo(1) == a_run(0.9, median=1.0)
    homes = {env["FEDMED_HOME"] for env in environments}
    assert len(homes) == 2
    assert not any(Path(home).exists() for home in homes)
    for env in environments:
        assert len({env[f"FEDMED_{name}_PORT"] for name in ("PREFECT", "MLFLOW", "API")}) == 3


def test_the_benchmark_writes_its_figures_whether_or_not_goals_are_met(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "run_demo", lambda seed: a_run(0.5, median=99.0))
    monkeypatch.setattr(rounds, "run_floor", lambda seed: FloorRun((1.0, 1.0)))
    assert rounds.main() == 0
    written = json.loads((settings.home / "bench" / "rounds.json").read_text())
    by_name = {figure["figure"]: figure for figure in written["figures"]}
    assert by_name["median round after the first"]["value"] == 99.0
    assert by_name["median round after the first"]["repeats"] == len(rounds.SEEDS)
