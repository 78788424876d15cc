from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from db.errors import ListenerLost
from db.notify import Listener, Notice, notify
from db.queries import messages, rounds
from db.session import transaction

pytestmark = pytest.mark.integration

UPLOAD = {"hospital_id": "north", "kind": "upload", "digest": "d" * 64, "size_bytes": 3}


def test_a_message_wakes_every_listener_when_it_is_committed(
    engine: Engine, round_id: UUID
) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        listeners = [stack.enter_context(Listener(engine)) for _ in range(3)]
        waiting = [pool.submit(listener.wait, 30.0) for listener in listeners]
        with transaction(engine) as session:
            messages.post_message(session, round_id=round_id, **UPLOAD)
            assert not any(future.done() for future in waiting)

        expected = [Notice(round_id=round_id, hospital_id="north", kind="upload")]
        assert [future.result(timeout=10) for future in waiting] == [expected] * 3


def test_a_closed_round_is_told_to_all(engine: Engine, round_id: UUID, now: datetime) -> None:
    with Listener(engine) as listener:
        with transaction(engine) as session:
            rounds.close_round(session, round_id=round_id, state="failed", reason="x", now=now)
        assert listener.wait(10.0) == [Notice(round_id=round_id, hospital_id="", kind="closed")]


def test_waiting_returns_all_that_has_arrived(engine: Engine, round_id: UUID) -> None:
    kinds = ["enrolment", "upload", "reveal"]
    with Listener(engine) as listener:
        with transaction(engine) as session:
            for kind in kinds:
                notify(session, round_id=round_id, hospital_id="north", kind=kind)
        assert [notice.kind for notice in listener.wait(10.0)] == kinds
        assert listener.wait(0.0) == []


def test_what_is_rolled_back_or_posted_again_wakes_nobody(engine: Engine, round_id: UUID) -> None:
    with transaction(engine) as session:
        messages.post_message(session, round_id=round_id, **UPLOAD)
    with Listener(engine) as listener:
        with transaction(engine) as session:
            notify(session, round_id=round_id, hospital_id="north", kind="reveal")
            session.rollback()
        with transaction(engine) as session:
            messages.post_message(session, round_id=round_id, **UPLOAD)
        assert listener.wait(0.1) == []


def test_silence_ends_with_the_timeout(engine: Engine) -> None:
    with Listener(engine) as listener:
        started = time.monotonic()
        assert listener.wait(0.2) == []
        assert time.monotonic() - started >= 0.2


def test_a_strangers_notification_is_passed_over(
    engine: Engine, round_id: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    with Listener(engine) as listener:
        with engine.begin() as connection:
            connection.execute(text("NOTIFY fedmed, 'hello'"))
        with transaction(engine) as session:
            notify(session, round_id=round_id, hospital_id="north", kind="upload")
        arrived: list[Notice] = []
        while not arrived:
            arrived = listener.wait(10.0)
    assert [notice.kind for notice in arrived] == ["upload"]
    assert "'hello'" in caplog.text


def test_a_lost_connection_is_an_error_not_silence(engine: Engine) -> None:
    with Listener(engine) as listener:

        def cut() -> None:
            with engine.begin() as connection:
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE query = 'LISTEN fedmed' AND datname = current_database()"
                    )
                )

        threading.Thread(target=cut).start()
        with pytest.raises(ListenerLost):
            listener.wait(10.0)


def test_leaving_it_closes_its_connection_and_leaves_the_pool_alone(engine: Engine) -> None:
    with Listener(engine) as listener:
        assert listener.fileno() > 0
    with pytest.raises(RuntimeError, match="with block"):
        listener.wait(0.0)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM pg_listening_channels()")).one() == (
            0,
        )
