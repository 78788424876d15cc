"""Waking whoever waits for a round: PostgreSQL's LISTEN and NOTIFY.

    with Listener(engine) as listener:
        while not (messages := list_messages(...)):
            listener.wait(5.0)

Enter the listener before reading the tables: what is committed afterwards is then never missed. A
notice says that something is there, the tables say what; missing one costs a timeout, no more.
"""

from __future__ import annotations

import logging
import select
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, cast
from uuid import UUID

import psycopg2
import psycopg2.extensions
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from db.errors import ListenerLost

CHANNEL: Final = "fedmed"
STANDING: Final = "standing"
USERS: Final = "users"
REVOKED: Final = "revoked"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something happened in a round, or to who may call.

    Attributes:
        round_id: the round; None when it is about none.
        hospital_id: whom it concerns; empty when it concerns all. Of ``revoked``: the token's id.
        kind: the kind of the message that was posted, ``closed``, ``standing``: the hospital was
            suspended, taken back, has left, or has other credentials, ``users``: a person was
            suspended or taken back, or has another role or password, or ``revoked``: a token was.
    """

    round_id: UUID | None
    hospital_id: str
    kind: str

    @classmethod
    def parse(cls, payload: str) -> Self:
        """Reads ``round:hospital:kind``; the first may be empty.

        Raises:
            ValueError: it is something else.

        >>> Notice.parse("11111111-2222-3333-4444-555555555555::closed").kind
        'closed'
        """
        round_id, hospital_id, kind = payload.split(":")
        return cls(
            round_id=UUID(round_id) if round_id else None, hospital_id=hospital_id, kind=kind
        )


def notify(session: Session, *, round_id: UUID | None, hospital_id: str, kind: str) -> None:
    """Sends a notice when the transaction commits, and none when it does not."""
    session.execute(
        text("SELECT pg_notify(:channel, :payload)"),
        {"channel": CHANNEL, "payload": f"{round_id or ''}:{hospital_id}:{kind}"},
    )


class Listener:
    """Hears notices on a connection of its own, from entering it until leaving it.

    To be used from one thread at a time.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: psycopg2.extensions.connection | None = None

    def __enter__(self) -> Self:
        pooled = self._engine.raw_connection()
        connection = cast(psycopg2.extensions.connection, pooled.driver_connection)
        # A connection that listens must not go back to the pool.
        pooled.detach()
        # A notice arrives only between transactions.
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        self._connection = connection
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def fileno(self) -> int:
        """Returns the socket, readable when `wait` has something to return; for an event loop."""
        return self._open_connection().fileno()

    def wait(self, timeout_s: float) -> list[Notice]:
        """Returns all notices that have arrived, as soon as there is one.

        Returns:
            An empty list after ``timeout_s`` seconds without one.

        Raises:
            ListenerLost: the server has closed the connection.
        """
        connection = self._open_connection()
        deadline = time.monotonic() + timeout_s
        poll = select.poll()  # not select.select, which takes no descriptor above 1023
        poll.register(connection, select.POLLIN)
        # The socket may become readable without a notice: a stranger's, or the server's farewell.
        while not (arrived := self._arrived(connection)):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            poll.poll(left * 1000)
        return arrived

    def _open_connection(self) -> psycopg2.extensions.connection:
        if self._connection is None:
            raise RuntimeError("a Listener is used in a with block")
        return self._connection

    def _arrived(self, connection: psycopg2.extensions.connection) -> list[Notice]:
        try:
            connection.poll()
        except psycopg2.Error as error:
            raise ListenerLost(f"the connection for notices is lost: {error}") from error
        payloads = [notice.payload for notice in connection.notifies]
        connection.notifies.clear()
        notices = []
        for payload in payloads:
            try:
                notices.append(Notice.parse(payload))
            except ValueError:
                # Whoever may connect may notify; it must not stop the rounds.
                _log.warning("notice %r on channel %s is not one of ours", payload, CHANNEL)
        return notices
