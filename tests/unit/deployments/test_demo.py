"""What a person sees of a training: its rounds, live and at the end, and the report."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from deployments import demo
from deployments.demo import (
    TrainingFailed,
    _report,
    _show_event,
    _show_report,
    _write,
    follow,
    hospitals_are_coming,
    rounds_table,
    training_view,
)
from deployments.errors import ApiRefused, OperatorError
from deployments.settings import StackSettings

STARTED = "2026-01-02T03:04:{:02}+00:00"


def a_round(number: int, **changes: Any) -> dict[str, Any]:
    values = {
        "number": number,
        "kind": "training",
        "state": "completed",
        "reason": None,
        "seconds": 1.0 + number / 10,
        "metrics": {"auc": 0.5 + number / 10, "accuracy": 0.4 + number / 10},
        "epsilon": float(number),
        "opened_at": STARTED.format(2 * number),
        "hospitals": [
            {"hospital_id": "east", "state": "revealed"},
            {"hospital_id": "west", "state": "revealed"},
        ],
    }
    return values | changes


def a_training(*rounds: dict[str, Any], **changes: Any) -> dict[str, Any]:
    values = {
        "training_id": "t-1",
        "model": "breast-cancer",
        "state": "completed",
        "reason": None,
        "planned_rounds": 2,
        "plan": {"delta": 1e-5},
        "mlflow_run_id": "run-1",
        "model_version": "7",
        "rounds": list(rounds),
    }
    return values | changes


FINISHED = a_training(
    a_round(1), a_round(2), a_round(3, kind="evaluation", metrics={"auc": 0.97, "accuracy": 0.9})
)


def a_console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=200, force_terminal=terminal)


def printed(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def rows(table: Table) -> list[list[str]]:
    """The cells of a table, by row."""
    return [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]


def test_a_row_shows_the_auc_of_the_weights_its_round_made() -> None:
    """Which the following round measures, since a round measures what it starts from."""
    assert rows(rounds_table(FINISHED)) == [
        ["1", "1.100", "0.700", "1.000"],
        ["2", "1.200", "0.970", "2.000"],
    ]


def test_the_live_view_shows_each_hospital_and_the_closing_evaluation() -> None:
    view = training_view(FINISHED)
    assert view.title == "breast-cancer: training completed"
    assert rows(view) == [
        ["1/2", "completed", "1.100", "0.700", "1.000", "east revealed  west revealed"],
        ["2/2", "completed", "1.200", "0.970", "2.000", "east revealed  west revealed"],
        ["closing", "completed", "1.300", "", "3.000", "east revealed  west revealed"],
    ]


def test_a_round_in_progress_leaves_blank_what_is_not_known() -> None:
    going_on = {"state": "open", "seconds": None, "metrics": None, "epsilon": None}
    pending = a_round(3, state="pending", hospitals=[])
    view = training_view(a_training(a_round(1), a_round(2, **going_on), pending, state="running"))
    assert rows(view) == [
        ["1/2", "completed", "1.100", "", "1.000", "east revealed  west revealed"],
        ["2/2", "open", "", "", "", "east revealed  west revealed"],
    ]


@pytest.mark.parametrize("rounds", [(), (a_round(1, state="pending", hospitals=[]),)])
def test_a_training_that_has_not_begun_is_an_empty_table(rounds: tuple[Any, ...]) -> None:
    training = a_training(*rounds, state="pending")
    assert rows(training_view(training)) == []
    assert rows(rounds_table(training)) == []


def test_a_following_round_that_failed_has_measured_nothing() -> None:
    failed = a_round(2, state="failed", metrics=None, epsilon=1.0)
    assert rows(rounds_table(a_training(a_round(1), failed)))[0] == ["1", "1.100", "", "1.000"]


class FakeOperator:
    """The API's answers, one after the other."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)

    def training(self, training_id: str) -> dict[str, Any]:
        assert training_id == "t-1"
        return self.answers.pop(0)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_POLL_S", 0.0)


def test_each_round_is_printed_once_when_it_has_ended() -> None:
    operator: Any = FakeOperator(
        a_training(a_round(1, state="open", metrics=None), state="running"),
        a_training(a_round(1), a_round(2, state="open", metrics=None), state="running"),
        FINISHED,
    )
    console = a_console()
    assert follow(operator, "t-1", console=console) is FINISHED
    lines = printed(console).splitlines()
    assert lines[:3] == [
        "round 1 training completed in 1.10 s  auc 0.6000  accuracy 0.5000  "
        "east revealed  west revealed",
        "round 2 training completed in 1.20 s  auc 0.7000  accuracy 0.6000  "
        "east revealed  west revealed",
        "round 3 evaluation completed in 1.30 s  auc 0.9700  accuracy 0.9000  "
        "east revealed  west revealed",
    ]


def test_on_a_terminal_the_view_is_live() -> None:
    console = a_console(terminal=True)
    follow(FakeOperator(FINISHED), "t-1", console=console)  # type: ignore[arg-type]
    assert "closing" in printed(console)
    assert "round 1 training completed" not in printed(console)


def test_a_training_that_failed_is_an_error_with_its_reason() -> None:
    failed = a_round(
        1, state="failed", metrics=None, reason="west refused: data-contract: radius: out-of-range"
    )
    console = a_console()
    operator: Any = FakeOperator(a_training(failed, state="failed", reason="west refused"))
    with pytest.raises(TrainingFailed, match="training t-1 failed: west refused"):
        follow(operator, "t-1", console=console)
    assert "west refused: data-contract: radius: out-of-range" in printed(console)


def test_hospitals_that_have_not_published_their_keys_are_waited_for_and_nothing_else() -> None:
    too_few = ApiRefused("there are 2", problem_type="/problems/too-few-hospitals")
    assert hospitals_are_coming(too_few)
    assert not hospitals_are_coming(ApiRefused("no such model"))
    assert not hospitals_are_coming(OperatorError("down"))


def a_report(settings: StackSettings) -> demo.DemoReport:
    return _report(
        FINISHED,
        wall_s=12.345,
        stack_start_s=3.5,
        peak_memory_mb=1234.56,
        settings=settings,
        hospitals=3,
    )


def test_the_report_tells_the_closing_evaluation_and_the_time_of_the_rounds(
    settings: StackSettings, tmp_path: Path
) -> None:
    path = tmp_path / "demo" / "report.json"
    path.parent.mkdir()
    _write(path, a_report(settings))
    assert json.loads(path.read_text()) == {
        "rounds": 2,
        "hospitals": 3,
        "wall_s": 12.35,
        "round_s": [1.1, 1.2],
        "round_median_s": 1.15,
        "round_period_s": 2.0,
        "stack_start_s": 3.5,
        "peak_memory_mb": 1234.6,
        "auc": 0.97,
        "accuracy": 0.9,
        "epsilon": 2.0,
        "delta": 1e-5,
        "mlflow_run_id": "run-1",
        "model_name": "breast-cancer",
        "model_version": "7",
        "addresses": {
            "prefect": settings.prefect_ui,
            "mlflow": settings.mlflow_url,
            "api": settings.api_docs,
        },
    }
    assert list(path.parent.iterdir()) == [path]


def test_the_report_is_shown_with_its_addresses(settings: StackSettings) -> None:
    console = a_console()
    _show_report(console, a_report(settings))
    text = printed(console)
    assert "AUC 0.9700, accuracy 0.9000 at epsilon 2.00, delta 1e-05" in text
    assert "model breast-cancer version 7" in text
    assert settings.api_docs in text


def test_a_report_without_figures_is_shown_all_the_same(settings: StackSettings) -> None:
    console = a_console()
    report = a_report(settings).model_copy(update={"auc": None, "accuracy": None})
    _show_report(console, report)
    assert "AUC not defined, accuracy not defined at epsilon 2.00" in printed(console)


def test_a_server_that_has_become_healthy_is_told_and_other_events_are_not() -> None:
    console = a_console()
    show = _show_event(console)
    show({"event": "healthy", "service": "api", "seconds": 1.25})
    show({"event": "ready", "seconds": 3.0})
    assert printed(console) == "api        healthy after 1.2 s\n"
