"""Access tokens that are refused before they expire.

revoke(session, jti=token_id, expires_at=expiry, now=now)
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import RevokedToken
from db.notify import REVOKED, notify


def revoke(session: Session, *, jti: UUID, expires_at: datetime, now: datetime) -> None:
    """Has a token refused from the commit on; again changes nothing.

    Forgets the revocations of tokens that have expired meanwhile.
    """
    session.execute(
        insert(RevokedToken).values(jti=jti, expires_at=expires_at).on_conflict_do_nothing()
    )
    session.execute(delete(RevokedToken).where(RevokedToken.expires_at < now))
    notify(session, round_id=None, hospital_id=str(jti), kind=REVOKED)
