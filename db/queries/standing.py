"""What the database says now about who holds a token, in one statement on unique keys.

standing = of_hospital(session, hospital_id="north", client_id="north", jti=token_id)
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from db.models import Client, Hospital, RevokedToken, User


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a token's subject stands.

    Attributes:
        state: of the hospital or the user.
        generation: of the hospital's client or of the user; a token names the one it is of.
        role: a user's role; None for a hospital.
        revoked: this very token was revoked.
    """

    state: str
    generation: int
    role: str | None
    revoked: bool


def of_hospital(
    session: Session, *, hospital_id: str, client_id: str, jti: UUID
) -> Standing | None:
    """Returns the standing of a hospital's client; None when there is no such client of it."""
    row = session.execute(
        select(Hospital.state, Client.generation, _revoked(jti))
        .join(Client, Client.hospital_id == Hospital.id)
        .where(Client.client_id == client_id, Hospital.id == hospital_id)
    ).one_or_none()
    if row is None:
        return None
    state, generation, revoked = row
    return Standing(state=state, generation=generation, role=None, revoked=revoked)


def of_user(session: Session, *, username: str, jti: UUID) -> Standing | None:
    """Returns the standing of a user; None when there is none of this name."""
    row = session.execute(
        select(User.state, User.generation, User.role, _revoked(jti)).where(
            User.username == username
        )
    ).one_or_none()
    if row is None:
        return None
    state, generation, role, revoked = row
    return Standing(state=state, generation=generation, role=role, revoked=revoked)


def _revoked(jti: UUID) -> ColumnElement[bool]:
    return exists().where(RevokedToken.jti == jti)
