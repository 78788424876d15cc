"""The benchmark's figures, from what the demos and the floor have measured."""

from __future__ import annotations

from deployments.bench.rounds import FloorRun, _free_ports, figures
from deployments.demo import DemoReport


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


def test_the_first_round_of_each_run_is_left_out_of_the_median() -> None:
    demos = [a_demo(0.9, median=m) for m in (1.0, 1.2, 1.4)]
    made = {f.figure: f for f in figures(demos, [FloorRun((9.0, 0.1, 0.3))])}
    assert made["median round after the first"].value == 1.2
    assert made["median round after the first"].repeats == 3
    assert made["median round of the floor, one plain process"].value == 0.2
    assert made["median from one round's opening to the next"].value == 1.7


def test_a_run_without_an_auc_counts_as_zero_and_misses_the_goal() -> None:
    demos = [a_demo(auc, median=1.0) for auc in (0.98, None)]
    made = {f.figure: f for f in figures(demos, [FloorRun((0.1, 0.1))])}
    auc = made["AUC on held-out rows, mean of seeds"]
    assert (auc.value, auc.is_met) == (0.49, False)


def test_free_ports_differ() -> None:
    assert len(set(_free_ports(3))) == 3
