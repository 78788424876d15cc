from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, Inspector, create_engine, inspect, text
from sqlalchemy.pool import NullPool

from db.embedded import EmbeddedServer, ensure_databases
from db.migrate import current, newest, upgrade
from db.models import Base

pytestmark = pytest.mark.integration

INI = Path(__file__).parents[3] / "alembic.ini"


@pytest.fixture
def empty_url(postgres: EmbeddedServer, request: pytest.FixtureRequest) -> str:
    name = f"empty_{abs(hash(request.node.nodeid))}"
    ensure_databases(postgres, (name,))
    return postgres.url(name)


def test_models_and_migrations_agree(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def checks(connection: Connection) -> dict[str, dict[str, Any]]:
    inspector: Inspector = inspect(connection)
    return {
        table: {c["name"]: c["sqltext"] for c in inspector.get_check_constraints(table)}
        for table in Base.metadata.tables
    }


def test_models_and_migrations_check_the_same(engine: Engine, empty_url: str) -> None:
    # Alembic compares no CHECK constraints: let the server read the models' and compare.
    from_models = create_engine(empty_url, poolclass=NullPool)
    Base.metadata.create_all(from_models)

    with engine.connect() as migrated, from_models.connect() as made:
        assert checks(migrated) == checks(made)


def test_an_empty_database_is_brought_to_the_newest_revision(empty_url: str) -> None:
    assert current(empty_url) is None
    upgrade(empty_url)
    upgrade(empty_url)
    assert current(empty_url) == newest() is not None


def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        # Alembic's context is one a process: one call is here, one in a process of its own would
        # take a second to start. The lock is what is tested.
        blocker = create_engine(empty_url, poolclass=NullPool)
        with blocker.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(7301, 0)"))
            waiting = pool.submit(upgrade, empty_url)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
        waiting.result(timeout=10)
    assert current(empty_url) == newest()


def test_it_is_quiet(empty_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    upgrade(empty_url)
    assert capfd.readouterr() == ("", "")


def test_the_command_line_uses_the_environment(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDMED_DATABASE_URL", empty_url)

    command.upgrade(Config(INI), "head")
    assert current(empty_url) == newest()

    command.downgrade(Config(INI), "base")
    left = inspect(create_engine(empty_url, poolclass=NullPool)).get_table_names()
    assert left == ["alembic_version"]


def test_the_migrations_can_be_written_out_for_an_administrator(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command.upgrade(Config(INI), "head", sql=True)
    assert "CREATE TRIGGER audit_events_append_only" in capsys.readouterr().out
