"""A hospital's ledger of privacy loss: append-only, hash-chained, on disk before a call returns.

    ledger = SiteLedger(Path("ledger.db"), witness=Path("ledger-witness.jsonl"))
    ledger.append(lambda entries: [("charge", {...})])

What an entry means is the affair of ``privacy.ledger``; here it has a kind and plain JSON. Several
processes may use one ledger: who appends reads and decides alone. The database is one copy of the
chain, the witness (`db.ledger_witness`) another:

- the database is one append ahead: a crash came between the two; the witness is completed;
- the witness is ahead, or behind by more, or holds other entries: one of them is not the latest.
  Everything is refused until a person repairs it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError as UnreadableDatabase

from db.chain import ChainHead, canonical_json, timestamp
from db.errors import LedgerBroken, LedgerRolledBack
from db.ledger_entry import LedgerEntry, check_chain, head_of
from db.ledger_witness import LedgerWitness
from db.models import utc_now
from db.site_engine import open_site_database

CLOCK_WENT_BACK: Final = "clock-went-back"
RECOVERED: Final = "recovered"
NOTES: Final = (CLOCK_WENT_BACK, RECOVERED)
"""Kinds of entries that the ledger writes about itself; they record no privacy loss."""

NewEntry: TypeAlias = tuple[str, Mapping[str, Any]]
"""Kind and details of an entry to append."""

Decide: TypeAlias = Callable[[Sequence[LedgerEntry]], Sequence[NewEntry]]
Carry: TypeAlias = Callable[[Sequence[LedgerEntry], Sequence[LedgerEntry]], Sequence[NewEntry]]

_metadata = sa.MetaData()
_entries = sa.Table(
    "entries",
    _metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("batch", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair found and did.

    Attributes:
        database: entries that the database held.
        witness: entries that the witness held.
        restored: entries that came back into the database from the witness as they were.
        carried: entries that were written anew, since the two held different histories.
    """

    database: int
    witness: int
    restored: int
    carried: int


class SiteLedger:
    """The ledger in one database and one witness; both are made when they are missing.

    Args:
        path: the database.
        witness: the witness; best on another disk than the database, where no backup restores both.
        clock: the time, with a time zone.
    """

    def __init__(
        self, path: Path, *, witness: Path, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._path = path
        self._witness = LedgerWitness(witness)
        self._clock = clock
        self._seen: list[LedgerEntry] = []  # checked before; only what is new is read again

    def append(self, decide: Decide) -> tuple[LedgerEntry, ...]:
        """Appends what ``decide`` makes of all entries so far: all of it, or none.

        When this returns, the entries are on disk, in the database and in the witness. Nothing else
        is appended between the reading and the writing.

        Raises:
            LedgerBroken, LedgerRolledBack: see ``entries``; nothing is appended.
            ValueError: details that are not plain JSON.
            Exception: whatever ``decide`` raises; nothing is appended.
        """
        with self._locked():
            with self._begin() as connection:
                self._catch_up(connection)
                self._complete_witness()
                new = self._chained(decide(tuple(self._seen)))
                _insert(connection, new)
            self._witness.append(new)
            self._seen += new
        return tuple(new)

    def entries(self) -> tuple[LedgerEntry, ...]:
        """Returns all entries, oldest first, with chain and witness checked.

        Raises:
            LedgerBroken: an entry was changed, removed or moved.
            LedgerRolledBack: database and witness differ by more than a crash can explain.
        """
        with self._locked():
            with self._begin() as connection:
                self._catch_up(connection)
            self._complete_witness()
            return tuple(self._seen)

    def verified(self) -> tuple[LedgerEntry, ...]:
        """Returns all entries as ``entries`` does, having read everything anew, the witness too."""
        self._seen.clear()
        entries = self.entries()
        with self._locked():
            self._witness.entries()
        return entries

    def repair(self, carry: Carry) -> Repair | None:
        """Brings database and witness together, by a person's decision; None if they agree.

        What one of them lacks it gets from the other, as it was. Where they hold different
        histories the database's stays, and what ``carry(entries, other)`` makes of the rest of the
        witness's is written after it; the old witness is kept beside the new one.

        Raises:
            LedgerBroken: an entry was changed, removed or moved; no repair mends that.
        """
        with self._locked():
            with self._begin() as connection:
                self._catch_up(connection)
                mine, theirs = list(self._seen), self._witness.entries()
                if _difference(mine, head_of(theirs)) is None:
                    return None
                common = sum(a == b for a, b in zip(mine, theirs, strict=False))
                diverged = common < min(len(mine), len(theirs))
                restored = [] if diverged else theirs[common:][len(mine) - common :]
                self._seen += restored
                carried = carry(tuple(mine), tuple(theirs[common:])) if diverged else []
                done = Repair(len(mine), len(theirs), len(restored), len(carried))
                note = {
                    "database": asdict(head_of(mine)),
                    "witness": asdict(head_of(theirs)),
                    "restored": done.restored,
                    "carried": done.carried,
                }
                new = self._chained([(RECOVERED, note), *carried])
                _insert(connection, [*restored, *new])
            self._seen += new
            name = "{0.name}.{1.seq}-{1.hash:.8}".format(self._witness.path, head_of(theirs))
            kept = self._witness.path.with_name(name) if diverged else None
            self._witness.replace(self._seen, keep_as=kept)
            return done

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds the ledger for this process and thread; the kernel frees it when a process ends."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        except BaseException:
            self._seen.clear()  # whether the last append is in the database is open: read it again
            raise
        finally:
            os.close(lock)

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except UnreadableDatabase as error:
            raise LedgerBroken(str(self._path), None, f"SQLite: {error.orig}") from None

    @cached_property
    def _engine(self) -> sa.Engine:
        return open_site_database(self._path, _metadata, append_only=(_entries,))

    def _catch_up(self, connection: Connection) -> None:
        """Reads and checks what is new since the last look; all, if what was seen is not there."""
        read = _rows(connection, start=max(1, len(self._seen)), where=str(self._path))
        if self._seen:
            if not read or read[0] != self._seen[-1]:
                self._seen.clear()
                read = _rows(connection, start=1, where=str(self._path))
            else:
                read = read[1:]
        check_chain(read, where=str(self._path), after=head_of(self._seen))
        self._seen += read

    def _complete_witness(self) -> None:
        """Adds what a crash kept from the witness.

        Raises:
            LedgerRolledBack: a crash does not explain the difference.
        """
        head = self._witness.head()
        difference = _difference(self._seen, head)
        if difference is not None:
            raise LedgerRolledBack(
                f"{self._path} and its witness {self._witness.path} {difference}"
            )
        if missing := self._seen[head.seq :]:
            self._witness.append(missing)

    def _chained(self, wanted: Sequence[NewEntry]) -> list[LedgerEntry]:
        if not wanted:
            return []
        at, head = self._clock(), head_of(self._seen)
        last = self._seen[-1].at if self._seen else at
        if at < last:
            wanted = [(CLOCK_WENT_BACK, {"before": timestamp(last)}), *wanted]
        new: list[LedgerEntry] = []
        for kind, details in wanted:
            entry = LedgerEntry.following(
                head, at=at, batch=len(self._seen) + 1, kind=kind, details=details
            )
            new.append(entry)
            head = entry.head
        return new


def _difference(entries: Sequence[LedgerEntry], witness: ChainHead) -> str | None:
    """Returns how a witness with this head differs from the entries, beyond a crash."""
    if witness.seq > len(entries):
        return f"end at entry {len(entries)} and {witness.seq}: the database is an older one"
    if witness.seq and entries[witness.seq - 1].hash != witness.hash:
        return f"hold different histories up to entry {witness.seq}"
    if witness.seq < len(entries) and entries[-1].batch > witness.seq + 1:
        return f"end at entry {len(entries)} and {witness.seq}: the witness is an older one"
    return None


def _insert(connection: Connection, entries: Sequence[LedgerEntry]) -> None:
    if not entries:
        return
    rows = [
        {
            "seq": entry.seq,
            "at": timestamp(entry.at),
            "batch": entry.batch,
            "kind": entry.kind,
            "details": canonical_json(entry.details),
            "previous": entry.previous,
            "hash": entry.hash,
        }
        for entry in entries
    ]
    connection.execute(_entries.insert(), rows)


def _rows(connection: Connection, *, start: int, where: str) -> list[LedgerEntry]:
    rows = connection.execute(
        sa.select(_entries).where(_entries.c.seq >= start).order_by(_entries.c.seq)
    ).all()
    try:
        return [
            LedgerEntry(
                row.seq,
                datetime.fromisoformat(row.at),
                row.batch,
                row.kind,
                json.loads(row.details),
                row.previous,
                row.hash,
            )
            for row in rows
        ]
    except (TypeError, ValueError) as error:
        raise LedgerBroken(where, None, f"holds what is no entry ({error})") from None
