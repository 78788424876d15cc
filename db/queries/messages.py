"""The exchange's mailbox: which message is there, under which hash; the bytes are blobs.

Coordinator to hospital: cohort, survivors, certificate. Hospital to coordinator: enrolment,
upload, echo, reveal, refusal. A dispatch is fetched by nobody: it is the record of the invitation
with which a hospital's flow run was created.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.errors import Conflict, NotFound, RoundClosed
from db.models import Message, MessageKind, Participation
from db.notify import notify
from db.queries.rows import get_round, round_kept_open


def post_message(
    session: Session,
    *,
    round_id: UUID,
    hospital_id: str,
    kind: MessageKind,
    digest: str,
    size_bytes: int,
) -> Message:
    """Posts a message to or from a hospital, and wakes who waits for it when it is committed.

    Posting the same message again changes nothing and returns the first one.

    Args:
        session: an open transaction.
        round_id: an open round.
        hospital_id: the hospital that sends it or is to have it.
        kind: what it is; one of each kind a round and hospital.
        digest: SHA-256 of its bytes, hex.
        size_bytes: their number.

    Raises:
        NotFound: no such round, or the hospital is not invited to it.
        RoundClosed: the round has ended, or has not begun.
        Conflict: another message of this kind is there.
    """
    target = round_kept_open(session, round_id)
    if session.get(Participation, (round_id, hospital_id)) is None:
        raise NotFound("participation", f"{hospital_id} in round {round_id}")
    if target.state != "open":
        raise RoundClosed(round_id, state=target.state, reason=target.reason)
    posted = session.scalars(
        insert(Message)
        .values(
            round_id=round_id,
            hospital_id=hospital_id,
            kind=kind,
            digest=digest,
            size_bytes=size_bytes,
        )
        .on_conflict_do_nothing(
            index_elements=[Message.round_id, Message.hospital_id, Message.kind]
        )
        .returning(Message)
    ).one_or_none()
    if posted is not None:
        notify(session, round_id=round_id, hospital_id=hospital_id, kind=kind)
        return posted
    earlier = _find(session, round_id, hospital_id, kind)
    if earlier is None or earlier.digest != digest:
        raise Conflict(
            "message-changed",
            f"{hospital_id} has another {kind} message in round {round_id}; the first one counts",
        )
    return earlier


def find_message(
    session: Session, *, round_id: UUID, hospital_id: str, kind: MessageKind
) -> Message | None:
    """Returns a message, None when it is not there yet.

    Raises:
        NotFound: no such round.
    """
    get_round(session, round_id)
    return _find(session, round_id, hospital_id, kind)


def list_messages(session: Session, *, round_id: UUID, kind: MessageKind) -> Sequence[Message]:
    """Returns a round's messages of one kind, by arrival."""
    return session.scalars(
        select(Message)
        .where(Message.round_id == round_id, Message.kind == kind)
        .order_by(Message.created_at, Message.hospital_id)
    ).all()


def _find(session: Session, round_id: UUID, hospital_id: str, kind: MessageKind) -> Message | None:
    return session.scalars(
        select(Message).where(
            Message.round_id == round_id,
            Message.hospital_id == hospital_id,
            Message.kind == kind,
        )
    ).one_or_none()
