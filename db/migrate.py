"""Bringing a database to the newest schema.

    upgrade("postgresql://user:password@host/fedmed")

The command line does the same with ``alembic upgrade head``, on the database that
FEDMED_DATABASE_URL names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from db.settings import postgresql_url

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def upgrade(url: str) -> None:
    """Applies the migrations that the database lacks, in one transaction.

    Several processes may call it at once: the first one migrates, the others wait for it.
    """
    engine = create_engine(postgresql_url(url), poolclass=NullPool)
    config = _config()
    with engine.begin() as connection:
        # env.py takes the connection from here: an address in a Config would be interpolated, and
        # a password may hold a percent sign.
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def current(url: str) -> str | None:
    """Returns the database's revision, None for an empty database."""
    engine = create_engine(postgresql_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """Returns the newest revision this program knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    # A Config interpolates its values.
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
