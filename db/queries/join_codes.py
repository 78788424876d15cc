"""One-time join codes: at most one unused code a hospital, kept as SHA-256, used once.

    issue_code(session, hospital_id="north", digest=…, created_by="user:operator", …)
    hospital_id = redeem_code(session, digest=…, now=now)

Whoever issues or redeems a code locks its hospital first.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from db.errors import JoinCodeRefused
from db.models import JoinCode
from db.queries.hospitals import locked_hospital


def issue_code(
    session: Session,
    *,
    hospital_id: str,
    digest: str,
    created_by: str,
    valid_for: timedelta,
    now: datetime,
) -> JoinCode:
    """Records a code of a hospital; one that was not used before is dead from now on.

    Raises:
        NotFound: no such hospital.
    """
    locked_hospital(session, hospital_id)
    void_codes(session, hospital_id=hospital_id)
    code = JoinCode(
        digest=digest,
        hospital_id=hospital_id,
        created_by=created_by,
        created_at=now,
        expires_at=now + valid_for,
    )
    session.add(code)
    session.flush()
    return code


def void_codes(session: Session, *, hospital_id: str) -> None:
    """Makes the hospital's unused code useless; the audit record says that there was one."""
    session.execute(
        delete(JoinCode).where(JoinCode.hospital_id == hospital_id, JoinCode.used_at.is_(None))
    )


def owner_of_code(session: Session, *, digest: str) -> str:
    """Returns whose code this is, used or not; the hospital is locked.

    Raises:
        JoinCodeRefused: there is no such code.
    """
    hospital_id = session.scalar(select(JoinCode.hospital_id).where(JoinCode.digest == digest))
    if hospital_id is None:
        raise JoinCodeRefused
    locked_hospital(session, hospital_id)
    return hospital_id


def redeem_code(session: Session, *, digest: str, now: datetime) -> str:
    """Uses a code up and returns whose it is; of two who try, one succeeds.

    Raises:
        JoinCodeRefused: it is unknown, used, replaced or expired; nobody is told which.
    """
    owner_of_code(session, digest=digest)
    used = session.scalar(
        update(JoinCode)
        .where(JoinCode.digest == digest, JoinCode.used_at.is_(None), JoinCode.expires_at > now)
        .values(used_at=now)
        .returning(JoinCode.hospital_id)
    )
    if used is None:
        raise JoinCodeRefused
    return used
