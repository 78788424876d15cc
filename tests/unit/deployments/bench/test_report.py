"""What a benchmark reports."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from deployments.bench.report import BenchReport, Figure, figure, print_report, write_report


def test_a_figure_is_the_median_of_its_repeats_or_their_mean() -> None:
    values = [1.0, 1.5, 4.0]
    median = figure("round", values, unit="s", better="lower", goal=1.5)
    assert (median.value, median.spread, median.repeats) == (1.5, 3.0, 3)
    mean = figure("auc", values, unit="", better="higher", mean=True)
    assert mean.value == pytest.approx(6.5 / 3, abs=1e-4)


@pytest.mark.parametrize(
    ("better", "goal", "met"),
    [
        ("lower", 2.0, True),
        ("lower", 1.5, True),
        ("lower", 1.49, False),
        ("higher", 1.5, True),
        ("higher", 1.51, False),
        ("lower", None, None),
    ],
)
def test_a_goal_is_met_from_its_better_side(
    better: str, goal: float | None, met: bool | None
) -> None:
    made = figure("x", [1.5], unit="", better=better, goal=goal)  # type: ignore[arg-type]
    assert made.is_met is met


@pytest.fixture
def figures() -> list[Figure]:
    return [
        figure("round", [1.25, 1.5, 1.75], unit="s", better="lower", goal=1.4),
        figure("auc", [0.97], unit="", better="higher", goal=0.96),
        figure("start", [3.0, 5.0], unit="s", better="lower"),
    ]


def test_the_report_names_machine_and_commit_and_is_read_back(
    tmp_path: Path, figures: list[Figure]
) -> None:
    path = tmp_path / "bench" / "rounds.json"
    report = write_report(path, figures)
    assert BenchReport.model_validate_json(path.read_bytes()) == report
    assert report.figures == tuple(figures)
    assert "cores" in report.machine
    assert report.commit
    assert list(path.parent.iterdir()) == [path]


def test_outside_a_checkout_the_commit_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert write_report(tmp_path / "r.json", []).commit == "unknown"


def test_the_table_says_what_was_met_and_what_was_missed(
    tmp_path: Path, figures: list[Figure]
) -> None:
    console = Console(file=io.StringIO(), width=120)
    print_report(write_report(tmp_path / "r.json", figures), console)
    lines = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    cells = {line[1]: line for line in lines if len(line) > 2}
    assert cells["round"][3:] == [
        "1.5",
        "s",
        "│",
        "≤",
        "1.4",
        "│",
        "missed",
        "│",
        "3",
        "│",
        "0.5",
        "│",
    ]
    assert "met" in cells["auc"]
    assert "≥" in cells["auc"]
    assert "met" not in cells["start"]
