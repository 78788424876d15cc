"""A real PostgreSQL for the tests: one embedded server a session, one migrated database a test.

A database is made by copying a migrated template, which takes some 30 ms.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from db.blobs import BlobStore
from db.embedded import EmbeddedServer, ensure_databases, start_embedded
from db.migrate import upgrade
from db.session import connect
from db.settings import DatabaseSettings

_TEMPLATE = "fedmed_template"
_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedServer]:
    """A server of this session, with a migrated database to copy from."""
    # Not pytest's own temporary folder: its path may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="fedmed-test-") as folder:
        server = start_embedded(Path(folder) / "postgres")
        try:
            ensure_databases(server, (_TEMPLATE,))
            upgrade(server.url(_TEMPLATE))
            yield server
        finally:
            server.stop()


@pytest.fixture
def database_url(postgres: EmbeddedServer) -> Iterator[str]:
    """The address of a fresh, migrated database."""
    name = f"test_{next(_numbers)}"
    administrator = create_engine(
        postgres.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool
    )
    with administrator.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}"))
    yield postgres.url(name)
    with administrator.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a fresh database."""
    opened = connect(DatabaseSettings(database_url=database_url))
    yield opened
    opened.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """An open transaction on a fresh database, rolled back after the test."""
    with Session(engine, expire_on_commit=False) as opened:
        yield opened


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    """A blob store on the local disk."""
    return BlobStore(str(tmp_path / "blobs"))
