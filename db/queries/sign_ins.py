"""Failures in a row, of an account or of an address, and how long each has to wait for them.

    if (left := wait_s(session, key=key, bound=ADDRESS, now=now)) > 0: refuse
    record_failure(session, key=key, bound=ADDRESS, now=now)

An upsert counts, so that failures in two processes at a time are two.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import case, delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import FailedSignIns

LONGEST_WAIT_S: Final = 900.0
_REMEMBERED_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How many failures in a row cost nothing, and after how many quiet seconds they are forgotten.

    The next failure costs a wait of 1 s, and each further one twice the last, 900 s at most.
    """

    free: int
    forgotten_after_s: float

    def wait_s(self, failures: int) -> float:
        """Returns how long to wait after that many failures in a row, in seconds.

        >>> [ADDRESS.wait_s(failures) for failures in (0, 4, 5, 6, 14, 15, 10_000)]
        [0.0, 0.0, 1.0, 2.0, 512.0, 900.0, 900.0]
        """
        beyond = failures - self.free
        # Beyond 2^10 the longest wait is reached; a power of a large count would overflow.
        return 0.0 if beyond < 0 else min(2.0 ** min(beyond, 10), LONGEST_WAIT_S)


# A stranger must not lock an account for ever: the stranger's address waits first and longer, and
# once it waits the longest, the account's failures are forgotten between two of its tries.
ADDRESS: Final = Bound(free=5, forgotten_after_s=_REMEMBERED_S)
ACCOUNT: Final = Bound(free=10, forgotten_after_s=LONGEST_WAIT_S)


def wait_s(session: Session, *, key: str, bound: Bound, now: datetime) -> float:
    """Returns the seconds until this key may try again, 0 when it may now."""
    failed = session.get(FailedSignIns, key)
    if failed is None:
        return 0.0
    passed_s = (now - failed.last_at).total_seconds()
    if passed_s >= bound.forgotten_after_s:
        return 0.0
    return max(bound.wait_s(failed.failures) - passed_s, 0.0)


def record_failure(session: Session, *, key: str, bound: Bound, now: datetime) -> int:
    """Counts one more failure; returns how many in a row there are now."""
    forgotten = FailedSignIns.last_at <= now - timedelta(seconds=bound.forgotten_after_s)
    failures: int = session.scalars(
        insert(FailedSignIns)
        .values(key=key, failures=1, last_at=now)
        .on_conflict_do_update(
            index_elements=[FailedSignIns.key],
            set_={
                "failures": case((forgotten, 1), else_=FailedSignIns.failures + 1),
                "last_at": func.greatest(FailedSignIns.last_at, now),
            },
        )
        .returning(FailedSignIns.failures)
    ).one()
    return failures


def clear(session: Session, key: str) -> None:
    """Forgets the failures of a key."""
    session.execute(delete(FailedSignIns).where(FailedSignIns.key == key))


def purge(session: Session, *, now: datetime) -> None:
    """Forgets what no bound counts any more."""
    oldest = now - timedelta(seconds=_REMEMBERED_S)
    session.execute(delete(FailedSignIns).where(FailedSignIns.last_at <= oldest))
