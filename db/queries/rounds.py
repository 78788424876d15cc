"""Rounds: opening one for a training, inviting hospitals, closing it with its outcome.

    with transaction(engine) as session:
        try:
            opened = open_round(session, training_id=..., kind="training", ...)
        except TooFewHospitals as error:
            refused = error  # leaving the block commits the refusal

Everything that changes a round locks its training first, then the round: two openers, or an opener
and a closer, wait for each other and then see what the other has done.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn
from uuid import UUID

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session

from db.errors import Conflict, TooFewHospitals
from db.models import (
    JsonObject,
    Message,
    Outcome,
    Participation,
    Round,
    RoundKind,
    Training,
)
from db.notify import notify
from db.queries.hospitals import invitable_hospitals
from db.queries.rows import get_round, locked_round, locked_training

__all__ = [
    "charged_rounds",
    "close_round",
    "closing_evaluation",
    "get_round",
    "list_rounds",
    "open_round",
]


def open_round(
    session: Session,
    *,
    training_id: UUID,
    kind: RoundKind,
    incoming_weights: str,
    flow_run_id: str | None,
    now: datetime,
) -> Round:
    """Opens the training's pending round, or its next one, and invites every invitable hospital.

    Raises:
        NotFound: no such training.
        Conflict: the training has ended, a round of it is open, or its plan pays for no further
            training round.
        TooFewHospitals: fewer than the training's least cohort. The round is recorded as failed in
            this session: catch this inside the transaction, so that the record is committed.
    """
    training = locked_training(session, training_id)
    _refuse_unless_next(session, training, kind)
    opened = _pending_or_next(session, training_id)
    opened.kind = kind
    opened.incoming_weights = incoming_weights
    opened.flow_run_id = flow_run_id
    opened.opened_at = now
    # Kept: a hospital that is suspended meanwhile would be missed by who suspends it.
    invited = invitable_hospitals(session, kept=True)
    if len(invited) < training.least_cohort:
        _refuse(session, opened, least=training.least_cohort, found=len(invited), now=now)
    opened.state = "open"
    session.flush()
    session.add_all(
        Participation(round_id=opened.id, hospital_id=hospital.id, index=index, invited_at=now)
        for index, hospital in enumerate(invited, start=1)
    )
    session.flush()
    return opened


def close_round(
    session: Session,
    *,
    round_id: UUID,
    state: Outcome,
    reason: str | None = None,
    metrics: JsonObject | None = None,
    epsilon: float | None = None,
    delta: float | None = None,
    outgoing_weights: str | None = None,
    strategy_state: str | None = None,
    now: datetime,
) -> Round:
    """Ends a round and tells everyone who waits on it.

    Closing it again with the same state and weights changes nothing: the first record stays.

    Raises:
        NotFound: no such round.
        Conflict: it has ended otherwise, or is to be completed without having been open.
    """
    closed = locked_round(session, round_id)
    if closed.state in ("completed", "failed"):
        if (closed.state, closed.outgoing_weights) != (state, outgoing_weights):
            raise Conflict(
                "round-closed",
                f"round {round_id} is {closed.state} with weights {closed.outgoing_weights}, "
                f"not {state} with {outgoing_weights}",
            )
        return closed
    if closed.state == "pending" and state == "completed":
        raise Conflict("round-not-open", f"round {round_id} is pending: it cannot be completed")
    closed.state, closed.reason, closed.closed_at = state, reason, now
    closed.metrics, closed.epsilon, closed.delta = metrics, epsilon, delta
    closed.outgoing_weights, closed.strategy_state = outgoing_weights, strategy_state
    session.flush()
    notify(session, round_id=round_id, hospital_id="", kind="closed")
    return closed


def list_rounds(session: Session, training_id: UUID) -> Sequence[Round]:
    """Returns a training's rounds by number."""
    return session.scalars(
        select(Round).where(Round.training_id == training_id).order_by(Round.number)
    ).all()


def closing_evaluation(session: Session, training_id: UUID) -> Round | None:
    """Returns the completed evaluation round of a training, the last if there are several."""
    return session.scalars(
        select(Round)
        .where(
            Round.training_id == training_id,
            Round.kind == "evaluation",
            Round.state == "completed",
        )
        .order_by(Round.number.desc())
        .limit(1)
    ).one_or_none()


def charged_rounds(session: Session, training_id: UUID) -> int:
    """Returns how many rounds of its privacy plan a training has spent.

    A training round is spent once a hospital has released a masked update in it, however the round
    ends: what was released cannot be taken back.
    """
    released = or_(
        Round.state == "completed",
        exists().where(Message.round_id == Round.id, Message.kind == "upload"),
        exists().where(Participation.round_id == Round.id, Participation.uploaded_at.is_not(None)),
    )
    return session.scalars(
        select(func.count())
        .select_from(Round)
        .where(Round.training_id == training_id, Round.kind == "training", released)
    ).one()


def _refuse_unless_next(session: Session, training: Training, kind: RoundKind) -> None:
    if training.state in ("completed", "failed"):
        raise Conflict("training-closed", f"training {training.id} is {training.state}")
    still_open = session.scalars(
        select(Round).where(Round.training_id == training.id, Round.state == "open")
    ).one_or_none()
    if still_open is not None:
        raise Conflict("round-open", f"round {still_open.number} of {training.id} is still open")
    if kind == "training" and charged_rounds(session, training.id) >= training.rounds:
        raise Conflict(
            "plan-spent",
            f"training {training.id} has spent the {training.rounds} rounds of its privacy plan",
        )


def _pending_or_next(session: Session, training_id: UUID) -> Round:
    pending = session.scalars(
        select(Round)
        .where(Round.training_id == training_id, Round.state == "pending")
        .order_by(Round.number)
        .limit(1)
    ).one_or_none()
    if pending is not None:
        return pending
    last = session.scalars(
        select(func.max(Round.number)).where(Round.training_id == training_id)
    ).one()
    added = Round(training_id=training_id, number=(last or 0) + 1)
    session.add(added)
    return added


def _refuse(session: Session, opened: Round, *, least: int, found: int, now: datetime) -> NoReturn:
    """Records the round as failed and raises why."""
    session.flush()
    refusal = TooFewHospitals(least=least, found=found, round_id=opened.id)
    close_round(session, round_id=opened.id, state="failed", reason=str(refusal), now=now)
    raise refusal
