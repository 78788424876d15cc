"""The audit record: append-only, hash-chained; who did what to what, and when.

    append_event(session, actor="operator", action="hospital.added", subject="hospital:north",
                 details={}, now=now)

Append last in a transaction: from there to the commit, every other append waits. A role needs
INSERT and SELECT on ``audit_events``, nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.chain import GENESIS, ChainHead, entry_hash, plain
from db.errors import AuditChainBroken
from db.locks import AUDIT, hold
from db.models import AuditEvent

_PAGE = 1000


def append_event(
    session: Session,
    *,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, Any],
    now: datetime,
) -> AuditEvent:
    """Appends an event to the chain.

    Args:
        session: an open transaction; the event is committed or lost with it.
        actor: who: a user's name, a hospital's id, or ``coordinator``.
        action: what, such as ``round.completed``.
        subject: to what, such as ``round:<id>``.
        details: plain JSON; metadata only.
        now: when, with a time zone.

    Raises:
        ValueError: details that are not plain JSON, or a time without a zone.
    """
    fields = {"actor": actor, "action": action, "subject": subject, "details": plain(details)}
    # The next statement sees what the holder before us has committed, so that numbers have no gap
    # and no two events have the same predecessor.
    hold(session, AUDIT)
    last = head(session)
    seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
    event = AuditEvent(
        seq=seq,
        at=now,
        previous=previous,
        hash=entry_hash(seq=seq, at=now, previous=previous, fields=fields),
        **fields,
    )
    session.add(event)
    session.flush()
    return event


def head(session: Session) -> ChainHead | None:
    """Returns the last event's number and hash, None when there is no event."""
    row = session.execute(
        select(AuditEvent.seq, AuditEvent.hash).order_by(AuditEvent.seq.desc()).limit(1)
    ).one_or_none()
    return ChainHead(*row) if row else None


def list_events(
    session: Session,
    *,
    subject: str | None = None,
    action: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> Sequence[AuditEvent]:
    """Returns events by number, from the one after ``after``."""
    query = select(AuditEvent).where(AuditEvent.seq > after).order_by(AuditEvent.seq).limit(limit)
    if subject is not None:
        query = query.where(AuditEvent.subject == subject)
    if action is not None:
        query = query.where(AuditEvent.action == action)
    return session.scalars(query).all()


def verify_chain(session: Session, *, known_head: ChainHead | None = None) -> int:
    """Checks every event and returns how many there are.

    Args:
        session: an open transaction.
        known_head: a head noted earlier, elsewhere. Without it, events missing at the end cannot
            be seen, nor a record that was written anew as a whole.

    Raises:
        AuditChainBroken: an event was changed, removed or moved; it names the first one.
    """
    expected = ChainHead(0, GENESIS)
    events = session.execute(
        select(*AuditEvent.__table__.columns).order_by(AuditEvent.seq),
        execution_options={"yield_per": _PAGE},
    )
    for event in events:
        if event.seq != expected.seq + 1:
            raise AuditChainBroken(expected.seq + 1, "is missing")
        if event.previous != expected.hash:
            raise AuditChainBroken(event.seq, "does not follow the event before it")
        found = entry_hash(
            seq=event.seq,
            at=event.at,
            previous=event.previous,
            fields={
                "actor": event.actor,
                "action": event.action,
                "subject": event.subject,
                "details": event.details,
            },
        )
        if found != event.hash:
            raise AuditChainBroken(event.seq, "was changed: its content has another hash")
        expected = ChainHead(event.seq, event.hash)
        if known_head is not None and known_head.seq == event.seq and known_head != expected:
            raise AuditChainBroken(event.seq, "is not the event that was noted under this number")
    if known_head is not None and known_head.seq > expected.seq:
        raise AuditChainBroken(expected.seq + 1, f"is missing: {known_head.seq} were noted")
    return expected.seq
