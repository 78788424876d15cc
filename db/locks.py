"""Advisory locks of a transaction: held until it ends, however it ends.

    hold(session, MODEL_VERSIONS, "breast-cancer")

Each use has its own space; the key is hashed, so two keys may share a lock and then only wait for
each other.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

MIGRATIONS: Final = 7301
AUDIT: Final = 7302
MODEL_VERSIONS: Final = 7303
TRAINING: Final = 7304
CHAMPION: Final = 7305


def hold(session: Session, space: int, key: str = "") -> None:
    """Waits for the lock and holds it until the transaction ends."""
    session.execute(
        text("SELECT pg_advisory_xact_lock(:space, hashtext(:key))"), {"space": space, "key": key}
    )


def try_hold(session: Session, space: int, key: str = "") -> bool:
    """Takes the lock if it is free; returns whether it did."""
    taken: bool = session.scalars(
        text("SELECT pg_try_advisory_xact_lock(:space, hashtext(:key))"),
        {"space": space, "key": key},
    ).one()
    return taken
