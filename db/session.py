"""Engines and transactions.

    engine = connect(DatabaseSettings())
    with transaction(engine) as session:
        add_hospital(session, hospital_id="hospital-1", name="North")

Rows stay readable after the commit. An exception that leaves the block rolls everything back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from db.settings import DatabaseSettings


def connect(settings: DatabaseSettings) -> Engine:
    """Makes an engine; it connects on first use.

    Locks are taken before the rows they guard are read, which only holds when every statement sees
    what was committed before it: the isolation level is set, whatever the server's default is.
    """
    return create_engine(
        settings.url,
        isolation_level="READ COMMITTED",
        pool_size=settings.pool_size,
        max_overflow=settings.pool_size,
        pool_pre_ping=True,
        # An error in a log would show what was written: hashes of secrets, names of people.
        hide_parameters=True,
        connect_args={
            "application_name": "fedmed",
            "connect_timeout": 10,
            "options": "-c timezone=UTC",
        },
    )


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Opens a session, commits it when the block ends and rolls back when it raises."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session
