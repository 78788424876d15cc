"""Trainings whose Prefect run is killed or cancelled, and trainings that run by schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import psutil
import pytest

pytestmark = pytest.mark.e2e

SCHEDULED: Final = "federated-round/federated-round"


def under_way(stack: Any, eventually: Callable[..., Any]) -> dict[str, Any]:
    """Starts a training and returns it once its first round has begun."""
    training_id = stack.start(rounds=50)

    def look() -> dict[str, Any] | None:
        training: dict[str, Any] = stack.operator.training(training_id)
        return training if training["rounds"][0]["state"] != "pending" else None

    return eventually(look, deadline_s=60)


def process_of(stack: Any, flow_run_id: str) -> psutil.Process:
    """The process in which the coordinator's worker runs a flow."""
    worker = psutil.Process(stack.state.services["coordinator"].pid)
    return next(
        process
        for process in worker.children(recursive=True)
        if process.environ().get("PREFECT__FLOW_RUN_ID") == flow_run_id
    )


def test_a_training_whose_run_is_killed_ends_with_that_reason(
    stack: Any, eventually: Callable[..., Any]
) -> None:
    training = under_way(stack, eventually)
    process_of(stack, training["flow_run_id"]).kill()
    ended = stack.ended(training["training_id"])
    assert ended["state"] == "failed"
    assert "exit code -9 before the training was over" in ended["reason"]
    assert all(r["state"] in ("completed", "failed") for r in ended["rounds"])


def test_a_training_that_is_cancelled_in_prefect_ends_too(
    stack: Any, eventually: Callable[..., Any]
) -> None:
    training = under_way(stack, eventually)
    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}
    path = f"/flow_runs/{training['flow_run_id']}"
    stack.prefect.call("POST", f"{path}/set_state", json=cancelling)
    ended = stack.ended(training["training_id"])
    assert ended["state"] == "failed"
    assert "before the training was over" in ended["reason"]
    assert stack.run_ended(training["flow_run_id"])["state_type"] == "CANCELLED"


def test_each_run_of_a_schedule_takes_a_round_of_a_scheduled_training(stack: Any) -> None:
    training_id = stack.start(rounds=2, pace="scheduled")
    deployment = stack.prefect.get(f"/deployments/name/{SCHEDULED}")["id"]
    rounds = []
    for _ in range(3):
        run = stack.prefect.call("POST", f"/deployments/{deployment}/create_flow_run", json={})
        assert stack.run_ended(run["id"])["state_type"] == "COMPLETED"
        training = stack.operator.training(training_id)
        rounds.append([(r["kind"], r["state"]) for r in training["rounds"]])
    done, closed = ("training", "completed"), ("evaluation", "completed")
    assert rounds == [[done], [done, done, closed], [done, done, closed]]
    assert training["state"] == "completed"
    assert training["model_version"] is not None
