"""Hospitals: adding them, their published identity keys, who may be invited.

    add_hospital(session, hospital_id="hospital-1", name="North", state="invited")

What changes a hospital's standing is in `db.queries.memberships`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.errors import AlreadyExists, Conflict, NotFound
from db.models import Hospital, HospitalState, Message


def add_hospital(
    session: Session, *, hospital_id: str, name: str, state: HospitalState = "active"
) -> Hospital:
    """Adds a hospital that has no keys yet.

    Raises:
        AlreadyExists: the id is taken.
    """
    added = session.scalars(
        insert(Hospital)
        .values(id=hospital_id, name=name, state=state)
        .on_conflict_do_nothing(index_elements=[Hospital.id])
        .returning(Hospital)
    ).one_or_none()
    if added is None:
        raise AlreadyExists("hospital", hospital_id)
    return added


def publish_identity(
    session: Session, *, hospital_id: str, signing_key: str, sealing_key: str
) -> Hospital:
    """Records a hospital's public identity keys, hex; repeating the same keys changes nothing.

    Raises:
        NotFound: no such hospital.
        Conflict: other keys are published. The other hospitals have pinned them: a change would
            make them refuse every round. Or another hospital has published one of these keys.
    """
    hospital = locked_hospital(session, hospital_id)
    if hospital.signing_key is None:
        _refuse_keys_of_others(session, hospital_id, signing_key, sealing_key)
        hospital.signing_key, hospital.sealing_key = signing_key, sealing_key
        session.flush()
    elif (hospital.signing_key, hospital.sealing_key) != (signing_key, sealing_key):
        raise Conflict("identity-changed", f"{hospital_id} has published other keys before")
    return hospital


def replace_identity(
    session: Session, *, hospital_id: str, signing_key: str, sealing_key: str
) -> Hospital:
    """Records a hospital's public identity keys, hex, in place of the ones it had.

    The other hospitals see keys that changed, and take part with it again once they accept them.

    Raises:
        NotFound: no such hospital.
        Conflict: another hospital has published one of these keys.
    """
    hospital = locked_hospital(session, hospital_id)
    _refuse_keys_of_others(session, hospital_id, signing_key, sealing_key)
    hospital.signing_key, hospital.sealing_key = signing_key, sealing_key
    session.flush()
    return hospital


def set_hospital_state(session: Session, *, hospital_id: str, state: HospitalState) -> Hospital:
    """Sets the state and nothing else; `db.queries.memberships` does what belongs to it.

    Raises:
        NotFound: no such hospital.
    """
    hospital = locked_hospital(session, hospital_id)
    hospital.state = state
    session.flush()
    return hospital


def get_hospital(session: Session, hospital_id: str) -> Hospital:
    """Returns a hospital.

    Raises:
        NotFound: no such hospital.
    """
    hospital = session.get(Hospital, hospital_id)
    if hospital is None:
        raise NotFound("hospital", hospital_id)
    return hospital


def list_hospitals(session: Session) -> Sequence[Hospital]:
    """Returns all hospitals by id."""
    return session.scalars(select(Hospital).order_by(Hospital.id)).all()


def invitable_hospitals(session: Session, *, kept: bool = False) -> Sequence[Hospital]:
    """Returns the hospitals a round may invite, by id: active, with a published identity.

    With ``kept`` they stay so until the transaction ends.
    """
    found = (
        select(Hospital)
        .where(Hospital.state == "active", Hospital.signing_key.is_not(None))
        .order_by(Hospital.id)
    )
    if kept:
        found = found.with_for_update(read=True).execution_options(populate_existing=True)
    return session.scalars(found).all()


def last_heard(session: Session, hospital_id: str | None = None) -> dict[str, datetime]:
    """Returns when each hospital's last message of a round arrived, of those that sent one.

    With ``hospital_id`` of that hospital alone.
    """
    found = (
        select(Message.hospital_id, func.max(Message.created_at))
        .where(Message.kind.in_(("enrolment", "upload", "echo", "reveal", "refusal")))
        .group_by(Message.hospital_id)
    )
    if hospital_id is not None:
        found = found.where(Message.hospital_id == hospital_id)
    rows = session.execute(found).all()
    return {hospital_id: at for hospital_id, at in rows}


def _refuse_keys_of_others(
    session: Session, hospital_id: str, signing_key: str, sealing_key: str
) -> None:
    """A key of another hospital's would make every round with both of them fail."""
    owner = session.scalars(
        select(Hospital.id).where(
            or_(Hospital.signing_key == signing_key, Hospital.sealing_key == sealing_key),
            Hospital.id != hospital_id,
        )
    ).first()
    if owner is not None:
        raise Conflict(
            "identity-taken", f"{hospital_id} publishes a key that {owner} has published before"
        )


def locked_hospital(session: Session, hospital_id: str) -> Hospital:
    """Returns a hospital as it is now, locked until the transaction ends.

    Raises:
        NotFound: no such hospital.
    """
    hospital = session.get(
        Hospital,
        hospital_id,
        with_for_update={"key_share": True},  # rounds refer to it meanwhile
        populate_existing=True,
    )
    if hospital is None:
        raise NotFound("hospital", hospital_id)
    return hospital
