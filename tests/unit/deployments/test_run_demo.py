"""The demo from its start to its report, without a stack; ``tests/e2e`` has the real one."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tenacity
from rich.console import Console

from deployments import demo
from deployments.demo import DemoReport, PeakMemory, run_demo
from deployments.errors import ApiRefused, OperatorError, PortTaken
from deployments.settings import StackSettings
from deployments.stack import control
from deployments.stack.control import RunningStack
from fl.spec import TrainingRequest

CLOSED = {
    "training_id": "t-1",
    "model": "breast-cancer",
    "state": "completed",
    "reason": None,
    "planned_rounds": 1,
    "plan": {"delta": 1e-5},
    "mlflow_run_id": "run-1",
    "model_version": "1",
    "rounds": [
        {
            "number": number,
            "kind": kind,
            "state": "completed",
            "reason": None,
            "seconds": 1.0,
            "metrics": {"auc": 0.9, "accuracy": 0.8},
            "epsilon": 2.0,
            "opened_at": f"2026-01-02T03:04:0{number}+00:00",
            "hospitals": [],
        }
        for number, kind in ((1, "training"), (2, "evaluation"))
    ],
}


class FakeOperator:
    """The API; hospitals publish their keys one by one."""

    def __init__(self, *refusals: ApiRefused) -> None:
        self.refusals = list(refusals)
        self.models: list[str] = []
        self.requests: list[TrainingRequest] = []

    def add_model(self, spec: Any) -> None:
        self.models.append(spec.name)

    def start_training(self, request: TrainingRequest) -> dict[str, Any]:
        self.requests.append(request)
        if self.refusals:
            raise self.refusals.pop(0)
        return {"training_id": "t-1"}

    def training(self, training_id: str) -> dict[str, Any]:
        return CLOSED


TOO_FEW = ApiRefused("there are 2", problem_type="/problems/too-few-hospitals")


@pytest.fixture
def stack(settings: StackSettings, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stack that starts at once; holds what was asked of it."""
    asked: dict[str, Any] = {"ended": False, "operator": FakeOperator()}

    @contextmanager
    def attached(given: StackSettings, *, hospitals: Any, progress: Any) -> Iterator[RunningStack]:
        asked["hospitals"] = hospitals
        if "fails" in asked:
            raise asked["fails"]
        progress({"event": "healthy", "service": "api", "seconds": 1.0})
        state: Any = None
        yield RunningStack(state, 3.5, lambda: None)
        asked["ended"] = True

    @contextmanager
    def connect(given: StackSettings) -> Iterator[FakeOperator]:
        yield asked["operator"]

    monkeypatch.setattr(control, "attached", attached)
    monkeypatch.setattr(control, "memory_mb", lambda state: 500.0)
    monkeypatch.setattr(demo.OperatorClient, "connect", connect)
    monkeypatch.setattr(demo, "run_apart", lambda function, *args, **how: function(*args, **how))
    monkeypatch.setattr(demo, "_MEMORY_POLL_S", 0.01)
    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda _: None)
    return asked


def run(settings: StackSettings, **how: Any) -> tuple[DemoReport, str]:
    console = Console(file=io.StringIO(), width=200)
    options = {"rounds": 1, "hospitals": 3, "seed": 5, **how}
    report = run_demo(settings, console=console, **options)
    return report, console.file.getvalue()  # type: ignore[attr-defined]


def test_the_demo_deals_rows_out_trains_and_leaves_a_report(
    settings: StackSettings, stack: dict[str, Any]
) -> None:
    report, printed = run(settings)
    for hospital_id, folder in stack["hospitals"].items():
        assert folder == settings.home / "demo" / "data" / "seed-5-of-3" / hospital_id
        assert (folder / "table.csv").exists()
    operator = stack["operator"]
    assert operator.models == ["breast-cancer"]
    assert [(r.model, r.rounds) for r in operator.requests] == [("breast-cancer", 1)]
    path = settings.home / "demo" / "report.json"
    assert DemoReport.model_validate_json(path.read_bytes()) == report
    assert (report.auc, report.stack_start_s, report.hospitals) == (0.9, 3.5, 3)
    assert "api        healthy after 1.0 s" in printed
    assert "round 1 training completed" in printed
    assert "AUC 0.9000" in printed
    assert stack["ended"]  # no terminal, nobody to keep it up for


def test_hospitals_that_come_one_by_one_are_waited_for(
    settings: StackSettings, stack: dict[str, Any]
) -> None:
    stack["operator"] = FakeOperator(TOO_FEW, TOO_FEW)
    run(settings)
    assert len(stack["operator"].requests) == 3


def test_another_refusal_ends_the_demo(settings: StackSettings, stack: dict[str, Any]) -> None:
    stack["operator"] = FakeOperator(ApiRefused("epsilon: too low"))
    with pytest.raises(OperatorError, match="epsilon: too low"):
        run(settings)
    assert not (settings.home / "demo" / "report.json").exists()


def test_a_stack_that_does_not_start_ends_the_demo(
    settings: StackSettings, stack: dict[str, Any]
) -> None:
    stack["fails"] = PortTaken("FEDMED_API_PORT", 8000)
    with pytest.raises(PortTaken):
        run(settings)
    assert stack["operator"].requests == []


def test_the_peak_of_the_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([100.0, 300.0, 200.0])
    last = threading.Event()

    def sample(_: Any) -> float:
        value = next(seen, None)
        if value is None:
            last.set()
        return value or 0.0

    monkeypatch.setattr(control, "memory_mb", sample)
    monkeypatch.setattr(demo, "_MEMORY_POLL_S", 0.001)
    state: Any = None
    with PeakMemory(state) as memory:
        assert last.wait(10)
    assert memory.peak_mb == 300.0


def test_the_rows_lie_where_the_report_s_seed_says(
    settings: StackSettings, stack: dict[str, Any]
) -> None:
    run(settings, seed=1)
    run(settings, seed=2, hospitals=4)
    folders = {path.name for path in Path(settings.home / "demo" / "data").iterdir()}
    assert folders == {"seed-1-of-3", "seed-2-of-4"}
