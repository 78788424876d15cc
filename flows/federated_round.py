"""One federated round as a Prefect flow: open, dispatch, gather, aggregate, evaluate, record.

The deployment ``federated-round`` runs the next round of a training, so that a person can put a
training on a schedule in the Prefect UI. After the last round it evaluates the final weights and
registers the model.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from uuid import UUID

from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from db.models import RoundKind
from fl.weights import decode_weights
from tasks.aggregate import Aggregated, aggregate
from tasks.closing import Closing
from tasks.cohort import OpenedRound, open_round
from tasks.coordinator import Coordinator
from tasks.dispatch import dispatch_training
from tasks.errors import RoundFailed
from tasks.evaluate import RoundEvaluation, evaluate, headline
from tasks.gather import GatheredSum, gather_masked_updates
from tasks.public import evaluate_public
from tasks.record import RoundOutcome, leave_artifacts, write_compliance_records
from tasks.registry import choose_champion, register_model
from tasks.run_fields import NOTE_TAG
from tasks.track import MetricPoint, annotate_run, end_run, log_to_mlflow, mlflow_run_url
from tasks.training import (
    TrainingProgress,
    close_training,
    epsilon_spent,
    history,
    next_scheduled_training,
    prepare_training,
    progress,
)

# Flower logs every round at INFO; the flow's own log says the same in one line.
logging.getLogger("flwr").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class RoundResult:
    """A completed round: what it measured, None if nothing, and what it left."""

    evaluation: RoundEvaluation | None
    aggregated: Aggregated | None
    hospitals: int


@flow(name="federated-round", persist_result=False)
def federated_round(training_id: UUID | None = None) -> State[None]:
    """Runs the next round of a training; after the last one, closes the training.

    Without ``training_id`` it takes the scheduled training that has waited longest, so that a
    schedule needs no parameters. Ends as Failed, with the reason, when the round cannot complete.
    """
    coordinator = Coordinator.from_environment()
    training_id = training_id or next_scheduled_training(coordinator)
    if training_id is None:
        return Completed(message="no scheduled training waits for a round")
    training = prepare_training(coordinator, training_id)
    try:
        if training.state in ("completed", "failed"):
            return Completed(message=f"training {training_id} has ended: {training.state}")
        if training.has_rounds_left:
            run_round(coordinator, training, kind="training")
            training = progress(coordinator, training_id)
        if not training.has_rounds_left:
            close(coordinator, training)
    except RoundFailed as failure:
        return Failed(message=str(failure))
    return Completed(message=f"{training.completed} of {training.rounds} rounds")


def run_round(
    coordinator: Coordinator, training: TrainingProgress, *, kind: RoundKind
) -> RoundResult:
    """Runs one round through its tasks and records how it ended, whichever way it ends.

    Raises:
        RoundFailed: with the reason that was recorded.
    """
    started = time.perf_counter()
    opened = open_round(
        coordinator, training.training_id, kind=kind, flow_run_id=runtime.flow_run.id
    )
    gathered: GatheredSum | None = None
    evaluation: RoundEvaluation | None = None
    aggregated: Aggregated | None = None
    reason: str | None = None
    try:
        dispatch_training(coordinator, opened)
        gathered = gather_masked_updates(coordinator, opened)
        if kind == "training":
            aggregated = aggregate(coordinator, opened, gathered)
        evaluation = evaluate(opened, gathered)
    except RoundFailed as failure:
        reason = str(failure)
        raise
    except BaseException as error:
        reason = f"the coordinator failed: {type(error).__name__}"
        raise
    finally:
        outcome = RoundOutcome(
            reason=reason,
            metrics={} if evaluation is None else evaluation.metrics(),
            epsilon=epsilon_spent(coordinator, training.plan, training.training_id),
            aggregated=aggregated,
            seconds=time.perf_counter() - started,
            survivors=() if gathered is None else gathered.hospital_ids,
            faults=() if gathered is None else gathered.faults,
            subgroups=() if evaluation is None else evaluation.subgroups,
        )
        record(coordinator, opened, outcome, trained=training.completed)
    get_run_logger().info(
        "round %d: %s, epsilon %.3f, %.2f s",
        opened.invitation.number,
        headline(outcome.metrics) or "no figures",
        outcome.epsilon,
        outcome.seconds,
    )
    return RoundResult(evaluation, aggregated, len(outcome.survivors))


def record(
    coordinator: Coordinator, opened: OpenedRound, outcome: RoundOutcome, *, trained: int
) -> None:
    """Writes a round's record, its metrics and its artifacts.

    What a round measured describes the weights it started from, ``trained`` rounds in; what it
    spent belongs to the weights it made.
    """
    write_compliance_records(coordinator, opened, outcome)
    points = [MetricPoint(name, value, trained) for name, value in outcome.metrics.items()]
    if outcome.aggregated:
        points += [
            MetricPoint("epsilon", outcome.epsilon, trained + 1),
            MetricPoint("round_seconds", outcome.seconds, trained + 1),
            MetricPoint("hospitals", len(outcome.survivors), trained + 1),
        ]
    if points:
        log_to_mlflow(opened.mlflow_run_id, points)
    leave_artifacts(coordinator, opened, outcome, run_url=mlflow_run_url(opened.mlflow_run_id))

    """A completed round: what it measured, None if nothing, what it left, and of how many."""


def close(coordinator: Coordinator, training: TrainingProgress) -> None:
    """Evaluates the final weights, registers the model and ends the training.

    Raises:
        RoundFailed: the closing evaluation failed; the training stays open for another try.
    """
    result = run_round(coordinator, training, kind="evaluation")
    if result.evaluation is None:
        raise RoundFailed("the closing evaluation measured nothing")
    closing = Closing(
        training=training,
        evaluation=result.evaluation,
        epsilon=epsilon_spent(coordinator, training.plan, training.training_id),
        hospitals=result.hospitals,
        history=history(coordinator, training.training_id),
        public=evaluate_public(coordinator, training),
        made_on=coordinator.now().date(),
    )
    weights = decode_weights(coordinator.blobs.get(training.weights))
    registered = register_model(training.mlflow_run_id, weights, closing)
    decision = choose_champion(coordinator, registered, closing)
    get_run_logger().info("version %s: %s", registered.version, decision.reason)
    note = f"{closing.describe()}\n\nVersion {registered.version}. Champion: {decision.reason}"
    annotate_run(training.mlflow_run_id, {NOTE_TAG: note})
    end_run(training.mlflow_run_id, failed=False)
    close_training(
        coordinator, training.training_id, state="completed", model_version=registered.version
    )
