"""The rows that other queries begin with: a round or a training, as it is now, locked or not.

Locks are taken in one order: training, round, hospital, participation, audit record. Whoever keeps
to it waits for others and never for himself.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.errors import NotFound
from db.models import Round, Training


def get_round(session: Session, round_id: UUID) -> Round:
    """Returns a round.

    Raises:
        NotFound: no such round.
    """
    found = session.get(Round, round_id)
    if found is None:
        raise NotFound("round", round_id)
    return found


def locked_training(session: Session, training_id: UUID) -> Training:
    """Returns a training as it is now, locked until the transaction ends.

    Raises:
        NotFound: no such training.
    """
    # NO KEY UPDATE: it excludes other changes, but not the foreign-key checks of new rounds.
    training = session.scalars(
        select(Training)
        .where(Training.id == training_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if training is None:
        raise NotFound("training", training_id)
    return training


def locked_round(session: Session, round_id: UUID) -> Round:
    """Returns a round as it is now, locked until the transaction ends, its training before it.

    Raises:
        NotFound: no such round.
    """
    locked_training(session, get_round(session, round_id).training_id)
    return session.scalars(
        select(Round)
        .where(Round.id == round_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()


def round_kept_open(session: Session, round_id: UUID) -> Round:
    """Returns a round as it is now; it cannot be closed until the transaction ends.

    Raises:
        NotFound: no such round.
    """
    found = session.scalars(
        select(Round)
        .where(Round.id == round_id)
        .with_for_update(read=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise NotFound("round", round_id)
    return found
