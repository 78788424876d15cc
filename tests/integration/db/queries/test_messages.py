from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from db.errors import Conflict, NotFound, RoundClosed
from db.models import Message, MessageKind
from db.queries import messages, rounds
from db.session import transaction

pytestmark = pytest.mark.integration


def post(
    engine: Engine,
    round_id: UUID,
    hospital_id: str = "north",
    kind: MessageKind = "upload",
    digest: str = "d" * 64,
) -> Message:
    with transaction(engine) as session:
        return messages.post_message(
            session,
            round_id=round_id,
            hospital_id=hospital_id,
            kind=kind,
            digest=digest,
            size_bytes=3,
        )


def test_a_message_is_found_by_round_hospital_and_kind(engine: Engine, round_id: UUID) -> None:
    posted = post(engine, round_id)
    post(engine, round_id, "west")
    post(engine, round_id, "west", "cohort")

    with transaction(engine) as session:
        found = messages.find_message(
            session, round_id=round_id, hospital_id="north", kind="upload"
        )
        assert found is not None
        assert (found.id, found.digest, found.size_bytes) == (posted.id, "d" * 64, 3)
        assert not messages.find_message(
            session, round_id=round_id, hospital_id="north", kind="reveal"
        )
        uploads = messages.list_messages(session, round_id=round_id, kind="upload")
        assert [m.hospital_id for m in uploads] == ["north", "west"]


def test_the_first_message_of_a_kind_counts(engine: Engine, round_id: UUID) -> None:
    first = post(engine, round_id)
    assert post(engine, round_id).id == first.id
    with pytest.raises(Conflict, match="the first one counts") as refused:
        post(engine, round_id, digest="e" * 64)
    assert refused.value.rule == "message-changed"


def test_of_two_different_messages_at_once_one_counts(engine: Engine, round_id: UUID) -> None:
    def contend(digit: str) -> bool:
        try:
            post(engine, round_id, digest=digit * 64)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(contend, "abcd")) == 1


def test_a_closed_round_takes_nothing_more_and_says_why(
    engine: Engine, round_id: UUID, now: datetime
) -> None:
    with transaction(engine) as session:
        rounds.close_round(
            session, round_id=round_id, state="failed", reason="west is silent", now=now
        )
    with pytest.raises(RoundClosed, match="west is silent") as refused:
        post(engine, round_id)
    assert (refused.value.state, refused.value.reason) == ("failed", "west is silent")


def test_a_round_is_not_closed_under_a_message(
    engine: Engine, round_id: UUID, now: datetime
) -> None:
    def close() -> None:
        with transaction(engine) as session:
            rounds.close_round(session, round_id=round_id, state="failed", now=now)

    with ThreadPoolExecutor(1) as pool:
        with transaction(engine) as session:
            messages.post_message(
                session,
                round_id=round_id,
                hospital_id="north",
                kind="upload",
                digest="d" * 64,
                size_bytes=1,
            )
            closing = pool.submit(close)
            with pytest.raises(TimeoutError):
                closing.result(timeout=0.2)
        closing.result(timeout=10)


def test_only_invited_hospitals_have_messages(engine: Engine, round_id: UUID) -> None:
    with pytest.raises(NotFound, match="eve in round"):
        post(engine, round_id, "eve")
    with pytest.raises(NotFound, match="no round"):
        post(engine, uuid4())
    with transaction(engine) as session, pytest.raises(NotFound, match="no round"):
        messages.find_message(session, round_id=uuid4(), hospital_id="north", kind="upload")
    # Not even past these functions.
    with pytest.raises(IntegrityError, match="fk_messages"), transaction(engine) as session:
        session.add(
            Message(
                round_id=round_id,
                hospital_id="eve",
                kind="upload",
                digest="d" * 64,
                size_bytes=1,
            )
        )
