from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from db.errors import AuditChainBroken
from db.models import AuditEvent
from db.queries import audit
from db.session import transaction

pytestmark = pytest.mark.integration


def append(engine: Engine, now: datetime, *numbers: int) -> list[AuditEvent]:
    appended = []
    for number in numbers:
        with transaction(engine) as session:
            appended.append(
                audit.append_event(
                    session,
                    actor="operator",
                    action="round.completed",
                    subject=f"round:{number % 2}",
                    details={"number": number, "epsilon": 1e-5, "large": 1e22, "zero": -0.0},
                    now=now + timedelta(seconds=number),
                )
            )
    return appended


def tamper(engine: Engine, *statements: str) -> None:
    """Changes the record past its triggers, as only a superuser can."""
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            assert connection.execute(text(statement)).rowcount > 0


def test_every_event_carries_the_hash_of_the_one_before(engine: Engine, now: datetime) -> None:
    events = append(engine, now, 1, 2, 3)

    assert [event.seq for event in events] == [1, 2, 3]
    assert [event.previous for event in events] == ["0" * 64, events[0].hash, events[1].hash]
    with transaction(engine) as session:
        assert audit.verify_chain(session) == 3


def test_an_empty_record_is_whole(session: Session) -> None:
    assert audit.verify_chain(session) == 0
    assert audit.head(session) is None


def test_many_writers_leave_no_gap_and_no_fork(engine: Engine, now: datetime) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: append(engine, now, *range(n, n + 5)), range(6)))

    with transaction(engine) as session:
        assert audit.verify_chain(session) == 30


def test_an_event_that_is_rolled_back_leaves_no_gap(engine: Engine, now: datetime) -> None:
    append(engine, now, 1)
    with transaction(engine) as session:
        audit.append_event(session, actor="a", action="b", subject="c", details={}, now=now)
        session.rollback()
    append(engine, now, 2)

    with transaction(engine) as session:
        assert audit.verify_chain(session) == 2


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET actor = 'nobody'",
        "UPDATE audit_events SET actor = 'nobody' WHERE false",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "INSERT INTO audit_events SELECT * FROM audit_events "
        "ON CONFLICT (seq) DO UPDATE SET actor = 'nobody'",
    ],
)
def test_changes_are_refused_even_to_the_superuser(
    engine: Engine, now: datetime, statement: str
) -> None:
    append(engine, now, 1)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW is_superuser")).scalar_one() == "on"
        with pytest.raises(ProgrammingError, match="audit_events is append-only"):
            connection.execute(text(statement))

    with transaction(engine) as session:
        assert audit.verify_chain(session) == 1


CHANGES = [
    ("UPDATE audit_events SET actor = 'nobody' WHERE seq = 2", 2, "was changed"),
    ("UPDATE audit_events SET at = at + interval '1 microsecond' WHERE seq = 1", 1, "was changed"),
    ("UPDATE audit_events SET subject = 'round:7' WHERE seq = 4", 4, "was changed"),
    (
        "UPDATE audit_events SET details = replace(details::text, '1e-05', '1e-06')::json "
        "WHERE seq = 3",
        3,
        "was changed",
    ),
    ("UPDATE audit_events SET hash = repeat('a', 64) WHERE seq = 2", 2, "was changed"),
    ("UPDATE audit_events SET previous = repeat('a', 64) WHERE seq = 2", 2, "does not follow"),
    ("DELETE FROM audit_events WHERE seq = 1", 1, "is missing"),
    ("DELETE FROM audit_events WHERE seq = 2", 2, "is missing"),
    ("UPDATE audit_events SET seq = 9 WHERE seq = 4", 4, "is missing"),
]


@pytest.mark.parametrize(("statement", "seq", "why"), CHANGES)
def test_a_change_past_the_triggers_is_noticed(
    engine: Engine, now: datetime, statement: str, seq: int, why: str
) -> None:
    append(engine, now, 1, 2, 3, 4)
    tamper(engine, statement)

    with transaction(engine) as session, pytest.raises(AuditChainBroken, match=why) as broken:
        audit.verify_chain(session)
    assert broken.value.seq == seq


def test_reordered_events_are_noticed(engine: Engine, now: datetime) -> None:
    append(engine, now, 1, 2, 3, 4)
    tamper(
        engine,
        "UPDATE audit_events SET seq = 100 WHERE seq = 2",
        "UPDATE audit_events SET seq = 2 WHERE seq = 3",
        "UPDATE audit_events SET seq = 3 WHERE seq = 100",
    )
    with transaction(engine) as session, pytest.raises(AuditChainBroken) as broken:
        audit.verify_chain(session)
    assert broken.value.seq == 2


def test_a_missing_end_is_noticed_by_who_noted_the_head(engine: Engine, now: datetime) -> None:
    append(engine, now, 1, 2, 3)
    with transaction(engine) as session:
        noted = audit.head(session)
    tamper(engine, "DELETE FROM audit_events WHERE seq = 3")

    with transaction(engine) as session:
        assert audit.verify_chain(session) == 2
        with pytest.raises(AuditChainBroken, match="3 were noted"):
            audit.verify_chain(session, known_head=noted)


def test_a_record_written_anew_is_noticed_by_who_noted_a_head(
    engine: Engine, now: datetime
) -> None:
    append(engine, now, 1, 2)
    with transaction(engine) as session:
        noted = audit.head(session)
    append(engine, now, 3)
    with transaction(engine) as session:
        assert audit.verify_chain(session, known_head=noted) == 3

    tamper(engine, "DELETE FROM audit_events WHERE seq > 0")
    append(engine, now, 1, 20, 3)

    with transaction(engine) as session:
        assert audit.verify_chain(session) == 3
        with pytest.raises(AuditChainBroken, match="noted under this number"):
            audit.verify_chain(session, known_head=noted)


def test_a_role_that_may_only_add_and_read_is_enough(
    engine: Engine, now: datetime, database_url: str
) -> None:
    role = f"app_{engine.url.database}"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(text(f"GRANT INSERT, SELECT ON audit_events TO {role}"))
    restricted = create_engine(engine.url.set(username=role), poolclass=NullPool)
    try:
        append(restricted, now, 1, 2)
        with transaction(restricted) as session:
            assert audit.verify_chain(session) == 2
        for statement in ("DELETE FROM audit_events", "SET session_replication_role = replica"):
            with (
                restricted.connect() as connection,
                pytest.raises(ProgrammingError, match="permission denied"),
            ):
                connection.execute(text(statement))
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))


def test_events_are_listed_by_subject_action_and_page(engine: Engine, now: datetime) -> None:
    append(engine, now, 1, 2, 3, 4)
    with transaction(engine) as session:
        assert [e.seq for e in audit.list_events(session, subject="round:0")] == [2, 4]
        assert [e.seq for e in audit.list_events(session, after=1, limit=2)] == [2, 3]
        assert audit.list_events(session, action="round.failed") == []


@pytest.mark.parametrize(
    ("details", "naive"),
    [({"score": float("nan")}, False), ({"when": object()}, False), ({}, True)],
)
def test_what_cannot_be_hashed_is_not_recorded(
    engine: Engine, now: datetime, details: dict[str, object], naive: bool
) -> None:
    at = now.replace(tzinfo=None) if naive else now
    with pytest.raises(ValueError, match=r"plain JSON|time zone"), transaction(engine) as session:
        audit.append_event(session, actor="a", action="b", subject="c", details=details, now=at)
    with transaction(engine) as session:
        assert audit.list_events(session) == []
