"""Hospitals in a round: invited, enrolled, uploaded, revealed; or refused, or lost, for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from db.errors import Conflict, NotFound
from db.models import Participation, ParticipationState, Round
from db.queries.rows import get_round

_NEXT: Final[Mapping[ParticipationState, frozenset[ParticipationState]]] = {
    "invited": frozenset({"enrolled", "refused", "lost"}),
    "enrolled": frozenset({"uploaded", "refused", "lost"}),
    "uploaded": frozenset({"revealed", "refused", "lost"}),
    "revealed": frozenset(),
    "refused": frozenset(),
    "lost": frozenset(),
}


def set_participation(
    session: Session,
    *,
    round_id: UUID,
    hospital_id: str,
    state: ParticipationState,
    reason_code: str | None = None,
    reason: str | None = None,
    now: datetime,
) -> Participation:
    """Moves a hospital to its next state in a round; its present state changes nothing.

    Raises:
        NotFound: the hospital is not invited to this round.
        Conflict: the state does not follow the present one.
    """
    participation = _locked(session, round_id, hospital_id)
    if participation.state == state:
        return participation
    if state not in _NEXT[participation.state]:
        raise Conflict(
            "participation-order",
            f"{hospital_id} is {participation.state!r} in round {round_id}: "
            f"{state!r} does not follow",
        )
    participation.state = state
    participation.reason_code, participation.reason = reason_code, reason
    match state:
        case "enrolled":
            participation.enrolled_at = now
        case "uploaded":
            participation.uploaded_at = now
        case "revealed":
            participation.revealed_at = now
    if not _NEXT[state]:
        participation.ended_at = now
    session.flush()
    return participation


def set_flow_run(
    session: Session, *, round_id: UUID, hospital_id: str, flow_run_id: str
) -> Participation:
    """Records the Prefect run in which a hospital takes part.

    Raises:
        NotFound: the hospital is not invited to this round.
    """
    participation = _locked(session, round_id, hospital_id)
    participation.flow_run_id = flow_run_id
    session.flush()
    return participation


def participations(session: Session, round_id: UUID) -> Sequence[Participation]:
    """Returns the hospitals invited to a round, by index.

    Raises:
        NotFound: no such round.
    """
    get_round(session, round_id)
    return session.scalars(
        select(Participation)
        .where(Participation.round_id == round_id)
        .order_by(Participation.index)
    ).all()


def is_invited_to_training(session: Session, *, training_id: UUID, hospital_id: str) -> bool:
    """Whether a hospital has been invited to any round of a training."""
    return session.scalars(
        select(
            exists().where(
                Participation.round_id == Round.id,
                Participation.hospital_id == hospital_id,
                Round.training_id == training_id,
            )
        )
    ).one()


def revealed_hospitals(session: Session, round_id: UUID) -> int:
    """Returns how many hospitals went through a round to its end."""
    return session.scalars(
        select(func.count())
        .select_from(Participation)
        .where(Participation.round_id == round_id, Participation.state == "revealed")
    ).one()


def get_participation(session: Session, *, round_id: UUID, hospital_id: str) -> Participation:
    """Returns a hospital's part in a round.

    Raises:
        NotFound: no such round, or the hospital is not invited to it.
    """
    participation = session.get(Participation, (round_id, hospital_id))
    if participation is None:
        get_round(session, round_id)
        raise NotFound("participation", f"{hospital_id} in round {round_id}")
    return participation


def _locked(session: Session, round_id: UUID, hospital_id: str) -> Participation:
    participation = session.get(
        Participation,
        (round_id, hospital_id),
        with_for_update={"key_share": True},  # messages refer to it meanwhile
        populate_existing=True,
    )
    if participation is None:
        raise NotFound("participation", f"{hospital_id} in round {round_id}")
    return participation
