"""A hospital's SQLite files: readable by their owner only, on disk before a call returns.

engine = open_site_database(Path("site.db"), metadata, append_only=(log,))
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.pool import NullPool


def open_site_database(
    path: Path, metadata: sa.MetaData, *, append_only: Sequence[sa.Table]
) -> sa.Engine:
    """Opens a file, made with its tables when it is missing; several processes may use it.

    A transaction takes the file's one write lock when it begins: what it has read cannot change
    before it writes.

    Args:
        path: the file; its folder is made, too.
        metadata: the tables.
        append_only: those of them whose rows are neither changed nor deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Made here, not by SQLite, so that it is never readable by others; SQLite gives its journal
    # files the mode of the database.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)
    engine = sa.create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": 30.0},
        poolclass=NullPool,  # nothing is carried over a fork
    )
    sa.event.listen(engine, "connect", _prepare_connection)
    sa.event.listen(engine, "begin", _begin_immediate)
    with engine.begin() as connection:
        metadata.create_all(connection)
        for table in append_only:
            for operation in ("update", "delete"):
                connection.execute(sa.text(_forbid(table.name, operation)))
    return engine


def _forbid(table: str, operation: str) -> str:
    return (
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_{operation} BEFORE {operation} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )


def _prepare_connection(connection: Any, record: object) -> None:
    # The driver's own BEGIN comes only with the first write: two readers would then both decide.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
