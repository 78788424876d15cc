"""Alembic's entry point: migrates the connection it is given, or FEDMED_DATABASE_URL.

All pending migrations run in one transaction, behind a lock, so that processes that start
together do not migrate together.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from db.locks import MIGRATIONS
from db.models import Base
from db.session import connect
from db.settings import DatabaseSettings


def migrate(connection: Connection) -> None:
    """Runs the pending migrations on a connection whose transaction the caller commits."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:space, 0)"), {"space": MIGRATIONS})
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif (given := context.config.attributes.get("connection")) is not None:
    migrate(given)
else:
    with connect(DatabaseSettings()).begin() as opened:
        migrate(opened)
