"""The loop over a training's rounds: when it goes on, tries again and gives up."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self
from uuid import UUID

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from fl.spec import TrainingRequest
from flows import federated_training as flow

TRAINING = UUID("6f1c1c1e-0000-4000-8000-000000000001")
REQUESTED = UUID("6f1c1c1e-0000-4000-8000-000000000002")
REQUEST = TrainingRequest(model="breast-cancer")


@dataclass
class Rounds:
    """Stands for the round's flow and its tasks: ``outcomes`` says how each round ends."""

    outcomes: list[str | None]
    names: list[str] = field(default_factory=list)
    trainings: set[UUID] = field(default_factory=set)
    closed: list[dict[str, Any]] = field(default_factory=list)
    runs_failed: list[str] = field(default_factory=list)
    completed: int = 0
    paused: list[float] = field(default_factory=list)

    def with_options(self, *, flow_run_name: str) -> Self:
        self.names.append(flow_run_name)
        return self

    def __call__(self, training_id: UUID, *, return_state: bool) -> State[None]:
        assert return_state
        self.trainings.add(training_id)
        reason = self.outcomes[len(self.names) - 1]
        if reason is not None:
            return Failed(message=reason)
        self.completed += 1
        return Completed()

    def progress(self, *_: object, **__: object) -> Any:
        ended = len(self.names) == len(self.outcomes) and self.outcomes[-1:] == [None]
        return SimpleNamespace(
            state="completed" if ended else "running",
            attempted=len(self.names),
            completed=self.completed,
            mlflow_run_id="run-1",
            spec=SimpleNamespace(name="breast-cancer"),
        )

    def waits_for(self, *_: object) -> str | None:
        reason = self.outcomes[len(self.names) - 1]
        return reason if reason is not None and "awaiting-approval" in reason else None

    def close_training(self, _: object, training_id: UUID, **how: Any) -> None:
        self.closed.append({"training_id": training_id, **how})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[State[None], Rounds]]:
    def runner(*outcomes: str | None, **parameters: Any) -> tuple[State[None], Rounds]:
        rounds = Rounds(list(outcomes))
        for name, value in {
            "federated_round": rounds,
            "prepare_training": rounds.progress,
            "progress": rounds.progress,
            "close_training": rounds.close_training,
            "waits_for": rounds.waits_for,
            "sleep": rounds.paused.append,
            "get_run_logger": lambda: logging.getLogger("flow"),
            "request_training": lambda _, request: REQUESTED,
            "end_run": lambda run_id, *, failed: rounds.runs_failed.append(run_id),
        }.items():
            monkeypatch.setattr(flow, name, value)
        monkeypatch.setattr(flow.Coordinator, "from_environment", lambda: None)
        return flow.federated_training.fn(**(parameters or {"training_id": TRAINING})), rounds

    return runner


def test_it_runs_rounds_until_the_training_has_ended(run: Any) -> None:
    state, rounds = run(None, None, None)
    assert state.is_completed()
    assert state.message == "3 rounds; model breast-cancer"
    assert rounds.names == ["round-1", "round-2", "round-3"]
    assert rounds.trainings == {TRAINING}
    assert rounds.closed == []


def test_a_failed_round_is_tried_once_more(run: Any) -> None:
    state, rounds = run("west refused: crashed", None, None)
    assert state.is_completed()
    assert len(rounds.names) == 3
    assert rounds.closed == []


def test_two_failures_in_a_row_end_the_training_with_the_last_reason(run: Any) -> None:
    state, rounds = run(None, "west refused: crashed", "west sent no upload within 60 s")
    assert state.is_failed()
    assert state.message == "west sent no upload within 60 s"
    assert rounds.closed == [
        {
            "training_id": TRAINING,
            "state": "failed",
            "reason": "west sent no upload within 60 s",
        }
    ]
    assert rounds.runs_failed == ["run-1"]


def test_failures_that_are_not_in_a_row_do_not_add_up(run: Any) -> None:
    state, rounds = run("a", None, "b", None, "c", None)
    assert state.is_completed()
    assert len(rounds.names) == 6


WAITING = "north refused: awaiting-approval: the policy asks a person for each training"


def test_a_training_waits_for_a_hospital_s_people_longer_each_time(run: Any) -> None:
    state, rounds = run(None, WAITING, WAITING, WAITING, None)
    assert state.is_completed()
    assert rounds.paused == [5.0, 10.0, 20.0]
    assert rounds.closed == []


def test_waiting_does_not_make_up_for_failures(run: Any) -> None:
    state, rounds = run("west refused: crashed", WAITING, "west refused: crashed")
    assert state.is_failed()
    assert rounds.paused == [5.0]


def test_a_training_that_nobody_approves_in_a_week_fails_with_what_it_waited_for(run: Any) -> None:
    tries = len(list(flow._pauses()))
    state, rounds = run(*[WAITING] * (tries + 1))
    assert state.is_failed()
    assert state.message == WAITING
    assert len(rounds.paused) == tries
    assert flow.PATIENCE_S <= sum(rounds.paused) < flow.PATIENCE_S + flow.LONGEST_PAUSE_S
    assert [closed["state"] for closed in rounds.closed] == ["failed"]


def test_a_round_that_fails_without_a_reason_still_gives_one(run: Any) -> None:
    state, rounds = run("", "")
    assert state.message == "a round failed"
    assert rounds.closed[0]["reason"] == "a round failed"


def test_a_person_in_the_prefect_ui_gives_a_request(run: Any) -> None:
    state, rounds = run(None, request=REQUEST)
    assert state.is_completed()
    assert rounds.trainings == {REQUESTED}


def test_neither_an_id_nor_a_request_is_said_plainly(
    run: Callable[..., tuple[State[None], Rounds]], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, rounds = run(training_id=None)
    assert state.is_failed()
    assert state.message == "give training_id or request: neither says what to train"
    assert rounds.names == []


def test_the_coordinator_does_without_pytorch() -> None:
    """Its process runs as long as a training; PyTorch would take 200 MB of it."""
    code = "import sys, flows.federated_training; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
