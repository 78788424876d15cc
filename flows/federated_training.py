"""A training of N rounds as a Prefect flow: each round is a ``federated-round`` run inside it."""

from __future__ import annotations

from collections.abc import Iterator
from time import sleep
from typing import Final
from uuid import UUID

from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Completed, Failed

from fl.spec import TrainingRequest
from flows.federated_round import federated_round
from tasks.coordinator import Coordinator
from tasks.track import end_run
from tasks.training import close_training, prepare_training, progress, request_training
from tasks.waiting import waits_for

ATTEMPTS: Final = 2
"""Failures in a row after which a training fails."""

FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 900.0
PATIENCE_S: Final = 7 * 24 * 3600.0
"""How long a training waits in all, try after try, for a hospital's people or its hours."""


@flow(name="federated-training", persist_result=False)
def federated_training(
    training_id: UUID | None = None, request: TrainingRequest | None = None
) -> State[None]:
    """Runs all rounds of a training and registers the model.

    The API gives ``training_id``, a training it has written; a person in the Prefect UI gives
    ``request`` instead. A failed round is tried once more with a new cohort before the training
    fails. A round that a hospital refused until its people have approved, or until its hours, is no
    failure: the training pauses, longer each time, and tries again.
    """
    coordinator = Coordinator.from_environment()
    if training_id is None:
        if request is None:
            return Failed(message="give training_id or request: neither says what to train")
        training_id = request_training(coordinator, request)
    training = prepare_training(coordinator, training_id, flow_run_id=runtime.flow_run.id)
    failures, pauses = 0, _pauses()
    while training.state == "running":
        # The training's own heartbeat covers its rounds; a round's would end only at its next beat.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            state = federated_round.with_options(flow_run_name=f"round-{training.attempted + 1}")(
                training_id, return_state=True
            )
        training = progress(coordinator, training_id)
        if state.is_completed():
            failures, pauses = 0, _pauses()
            continue
        if waited_for := waits_for(coordinator, training_id):
            if (pause_s := next(pauses, None)) is not None:
                get_run_logger().info("%s: next round in %.0f s", waited_for, pause_s)
                sleep(pause_s)
                continue
            failures = ATTEMPTS - 1
        failures += 1
        if failures == ATTEMPTS:
            reason = state.message or "a round failed"
            end_run(training.mlflow_run_id, failed=True)
            close_training(coordinator, training_id, state="failed", reason=reason)
            return Failed(message=reason)
    return Completed(message=f"{training.completed} rounds; model {training.spec.name}")


def _pauses() -> Iterator[float]:
    """Seconds to wait before each try, until the patience has run out."""
    waited, pause_s = 0.0, FIRST_PAUSE_S
    while waited < PATIENCE_S:
        yield pause_s
        waited += pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
