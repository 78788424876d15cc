"""A real PostgreSQL for the tests: one embedded server and one migrated database a session.

The database is emptied after each test that used it. Making a new one for each, from a template,
takes a quarter of a second; emptying it takes milliseconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from db.blobs import BlobStore
from db.embedded import EmbeddedServer, ensure_databases, start_embedded
from db.migrate import upgrade
from db.models import Base
from db.session import connect
from db.settings import DatabaseSettings

_DATABASE = "fedmed_test"


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedServer]:
    """The server of this session."""
    # Not pytest's own temporary folder: its path may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="fedmed-test-") as folder:
        server = start_embedded(Path(folder) / "postgres", durable=False)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def _migrated_url(postgres: EmbeddedServer) -> str:
    ensure_databases(postgres, (_DATABASE,))
    url = postgres.url(_DATABASE)
    upgrade(url)
    return url


@pytest.fixture
def database_url(_migrated_url: str) -> Iterator[str]:
    """The address of a migrated database in which nothing is written yet."""
    yield _migrated_url
    _empty(_migrated_url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on an empty database."""
    opened = connect(DatabaseSettings(database_url=database_url))
    yield opened
    opened.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """An open transaction on an empty database, rolled back after the test."""
    with Session(engine, expire_on_commit=False) as opened:
        yield opened


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    """A blob store on the local disk."""
    return BlobStore(str(tmp_path / "blobs"))


def _keys_of(hospital_id: str) -> dict[str, str]:
    return {
        name: sha256(f"{name} of {hospital_id}".encode()).hexdigest()
        for name in ("signing_key", "sealing_key")
    }


@pytest.fixture
def keys_of() -> Callable[[str], dict[str, str]]:
    """Public keys as a hospital publishes them; each hospital has its own."""
    return _keys_of


def _empty(url: str) -> None:
    """Ends the connections a test has left behind and deletes all it has written."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
        # Past the triggers that keep the audit record, and in any order of the tables.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for table in Base.metadata.tables:
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 (our own tables)
