"""Trainings: pending, running, then completed or failed for good."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.errors import Conflict, NotFound
from db.locks import TRAINING, try_hold
from db.models import DEFAULT_PURPOSE, JsonObject, Model, Outcome, Round, Training, utc_now
from db.queries.rounds import close_round
from db.queries.rows import locked_training


def add_training(
    session: Session,
    *,
    model_id: UUID,
    rounds: int,
    strategy: JsonObject,
    plan: JsonObject,
    epsilon: float,
    delta: float,
    least_cohort: int,
    round_deadline_s: float,
    requested_by: str,
    purpose: str = DEFAULT_PURPOSE,
) -> Training:
    """Writes a pending training and its first round, pending too, so that it can be asked after.

    Args:
        session: an open transaction.
        model_id: the model to train.
        rounds: rounds to train.
        strategy: the strategy's specification.
        plan: the privacy plan.
        epsilon: price of the whole plan.
        delta: the delta of that price.
        least_cohort: fewest hospitals with which a round may run.
        round_deadline_s: seconds after which a silent hospital ends a round.
        requested_by: who asked for it.
        purpose: what the model is for, in one word.

    Raises:
        NotFound: no such model.
    """
    if session.get(Model, model_id) is None:
        raise NotFound("model", model_id)
    training = Training(
        model_id=model_id,
        rounds=rounds,
        strategy=strategy,
        plan=plan,
        epsilon=epsilon,
        delta=delta,
        least_cohort=least_cohort,
        round_deadline_s=round_deadline_s,
        requested_by=requested_by,
        purpose=purpose,
    )
    session.add(training)
    session.flush()
    session.add(Round(training_id=training.id, number=1, kind="training"))
    session.flush()
    return training


def get_training(session: Session, training_id: UUID) -> Training:
    """Returns a training.

    Raises:
        NotFound: no such training.
    """
    training = session.get(Training, training_id)
    if training is None:
        raise NotFound("training", training_id)
    return training


def list_trainings(
    session: Session, *, model_id: UUID | None = None, limit: int = 100
) -> Sequence[Training]:
    """Returns trainings, the newest first."""
    query = select(Training).order_by(Training.created_at.desc(), Training.id).limit(limit)
    if model_id is not None:
        query = query.where(Training.model_id == model_id)
    return session.scalars(query).all()


def unfinished_trainings(session: Session) -> Sequence[Training]:
    """Returns all trainings that are pending or running, the oldest first."""
    return session.scalars(
        select(Training)
        .where(Training.state.in_(("pending", "running")))
        .order_by(Training.created_at, Training.id)
    ).all()


def try_lock_training(session: Session, training_id: UUID) -> bool:
    """Takes the training's lock for the rest of the transaction; returns False when it is taken.

    Queries of this package lock what they change themselves; this is for a caller that wants to be
    the only one to drive a training while its transaction is open.
    """
    return try_hold(session, TRAINING, str(training_id))


def start_training(
    session: Session,
    *,
    training_id: UUID,
    weights: str,
    mlflow_run_id: str,
    flow_run_id: str | None = None,
) -> Training:
    """Starts a pending training from its initial weights.

    A running training is left as it is: what was prepared first counts.

    Raises:
        NotFound: no such training.
        Conflict: it has ended.
    """
    training = _open_training(session, training_id)
    if training.state == "pending":
        training.state = "running"
        training.weights, training.mlflow_run_id = weights, mlflow_run_id
        training.flow_run_id = flow_run_id or training.flow_run_id
        session.flush()
    return training


def set_training_runs(
    session: Session,
    *,
    training_id: UUID,
    flow_run_id: str | None = None,
    mlflow_run_id: str | None = None,
) -> Training:
    """Records the Prefect and MLflow runs that belong to a training; None leaves one as it is.

    Raises:
        NotFound: no such training.
    """
    training = locked_training(session, training_id)
    training.flow_run_id = flow_run_id or training.flow_run_id
    training.mlflow_run_id = mlflow_run_id or training.mlflow_run_id
    session.flush()
    return training


def advance_training(
    session: Session, *, training_id: UUID, weights: str, strategy_state: str | None
) -> Training:
    """Moves a training to the weights and the strategy's state that a round has left.

    Raises:
        NotFound: no such training.
        Conflict: it has ended.
    """
    training = _open_training(session, training_id)
    training.weights, training.strategy_state = weights, strategy_state
    session.flush()
    return training


def close_training(
    session: Session,
    *,
    training_id: UUID,
    state: Outcome,
    reason: str | None = None,
    model_version: str | None = None,
    now: datetime | None = None,
) -> Training:
    """Ends a training; repeating the same end changes nothing.

    A failed training takes its pending and open rounds with it.

    Raises:
        NotFound: no such training.
        Conflict: it has ended the other way, or is to be completed while a round is open.
    """
    now = now or utc_now()
    training = locked_training(session, training_id)
    if training.state in ("completed", "failed"):
        if training.state != state:
            raise Conflict("training-closed", f"training {training_id} is {training.state}")
        return training
    unfinished = session.scalars(
        select(Round).where(Round.training_id == training_id, Round.state.in_(("pending", "open")))
    ).all()
    for left in unfinished:
        if state == "completed":
            raise Conflict("round-open", f"round {left.number} of {training_id} is {left.state}")
        why = f"the training failed: {reason}" if reason else "the training failed"
        close_round(session, round_id=left.id, state="failed", reason=why, now=now)
    training.state, training.reason, training.closed_at = state, reason, now
    training.model_version = model_version
    session.flush()
    return training


def _open_training(session: Session, training_id: UUID) -> Training:
    training = locked_training(session, training_id)
    if training.state in ("completed", "failed"):
        raise Conflict("training-closed", f"training {training_id} is {training.state}")
    return training
