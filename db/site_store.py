"""A hospital's own small store: the rounds it took part in, its peers' keys, its local log.

    store = SiteStore(Path("site.db"))
    store.begin_round(training_id=..., number=1, round_id=..., now=now)

SQLite, readable by its owner only, on disk (fsync) before a call returns: what a hospital answers
must not depend on whether the machine stays up. Several processes may use one file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from db.chain import GENESIS, ChainHead, canonical_json, entry_hash, link_fault, plain, timestamp
from db.errors import AuditChainBroken, Conflict
from db.models import utc_now
from db.site_engine import open_site_database

_metadata = sa.MetaData()
_rounds = sa.Table(
    "rounds",
    _metadata,
    sa.Column("training_id", sa.Uuid, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("round_id", sa.Uuid, nullable=False, unique=True),
    sa.Column("begun_at", sa.Text, nullable=False),
)
_identities = sa.Table(
    "identities",
    _metadata,
    sa.Column("hospital_id", sa.Text, primary_key=True),
    sa.Column("signing_key", sa.Text, nullable=False),
    sa.Column("sealing_key", sa.Text, nullable=False),
    sa.Column("pinned_at", sa.Text, nullable=False),
)
_log = sa.Table(
    "log",
    _metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)
_journal = sa.Table(
    "journal",
    _metadata,
    sa.Column("training_id", sa.Uuid, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("step", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.Text, nullable=False),
)
_REPEATABLE_STEP = "survivors"


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry of the local log."""

    seq: int
    at: datetime
    event: str
    details: dict[str, Any]


class PinnedKeys(NamedTuple):
    """The public keys under which a hospital is known here, hex."""

    signing_key: str
    sealing_key: str


class TrainingJournal:
    """The steps this hospital has taken in the rounds of one training; see ``SiteStore.journal``.

    What the steps mean is the secure sum's affair (``privacy.secagg.journal``).
    """

    def __init__(
        self, engine: sa.Engine, training_id: UUID, *, clock: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._training_id = training_id
        self._clock = clock

    def record(self, round_number: int, step: str, digest: bytes) -> None:
        """Writes a step; it is on disk before this returns.

        Raises:
            Conflict: the step is there already; ``survivors`` may be repeated with one digest.
        """
        row = {
            "training_id": self._training_id,
            "number": round_number,
            "step": step,
            "digest": digest,
            "at": timestamp(self._clock()),
        }
        with self._engine.begin() as connection:
            earlier = self._steps(connection, round_number).get(step)
            if earlier is None:
                connection.execute(_journal.insert().values(row))
        if earlier is not None and not (step == _REPEATABLE_STEP and earlier == digest):
            raise Conflict(
                "round-reused",
                f"round {round_number} of training {self._training_id}: the journal holds the step "
                f"{step!r} already",
            )

    def recorded(self, round_number: int) -> dict[str, bytes]:
        """Returns the digests of the steps taken in a round, in the order they were taken."""
        with self._engine.begin() as connection:
            return self._steps(connection, round_number)

    def _steps(self, connection: Connection, round_number: int) -> dict[str, bytes]:
        rows = connection.execute(
            sa.select(_journal.c.step, _journal.c.digest)
            .where(_journal.c.training_id == self._training_id, _journal.c.number == round_number)
            .order_by(sa.text("rowid"))
        ).all()
        return {row.step: row.digest for row in rows}


class SiteStore:
    """The store in one file, which is made when it is missing."""

    def __init__(self, path: Path, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._engine = open_site_database(path, _metadata, append_only=(_rounds, _log, _journal))

    def begin_round(self, *, training_id: UUID, number: int, round_id: UUID, now: datetime) -> None:
        """Records, durably, that this hospital answers a round; each round once.

        Raises:
            Conflict: the number was used in this training before, or the round's id was, by a run
                that may have answered already.
        """
        row = {
            "training_id": training_id,
            "number": number,
            "round_id": round_id,
            "begun_at": timestamp(now),
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(_rounds.insert().values(row))
        except IntegrityError:
            raise Conflict(
                "round-reused",
                f"round {number} of training {training_id}, or its id {round_id}, "
                "was begun here before",
            ) from None

    def journal(self, training_id: UUID) -> TrainingJournal:
        """Returns the record of what this hospital has answered in the rounds of a training."""
        return TrainingJournal(self._engine, training_id, clock=self._clock)

    def pinned_identities(self) -> dict[str, PinnedKeys]:
        """Returns the keys that are pinned here, by hospital."""
        with self._engine.begin() as connection:
            rows = connection.execute(
                sa.select(_identities).order_by(_identities.c.hospital_id)
            ).all()
        return {row.hospital_id: PinnedKeys(row.signing_key, row.sealing_key) for row in rows}

    def pin_identity(self, hospital_id: str, *, signing_key: str, sealing_key: str) -> None:
        """Keeps a hospital's keys the first time they are seen, and compares them ever after.

        Raises:
            Conflict: the keys differ from the pinned ones; see `accept_identity`.
        """
        seen = (signing_key, sealing_key)
        with self._engine.begin() as connection:
            pinned = connection.execute(
                sa.select(_identities.c.signing_key, _identities.c.sealing_key).where(
                    _identities.c.hospital_id == hospital_id
                )
            ).one_or_none()
            if pinned is None:
                self._pin(connection, hospital_id, seen, event="identity-pinned")
        if pinned is not None and tuple(pinned) != seen:
            raise Conflict(
                "identity-changed",
                f"{hospital_id} has other keys than the ones pinned here; accept the new ones only "
                "after asking that hospital, not the coordinator",
            )

    def accept_identity(self, hospital_id: str, *, signing_key: str, sealing_key: str) -> None:
        """Pins a hospital's keys, instead of its old ones if it had any; a person's decision."""
        with self._engine.begin() as connection:
            connection.execute(_identities.delete().where(_identities.c.hospital_id == hospital_id))
            keys = (signing_key, sealing_key)
            self._pin(connection, hospital_id, keys, event="identity-accepted")

    def log(self, event: str, details: Mapping[str, Any]) -> None:
        """Appends an entry to the local log.

        Raises:
            ValueError: details that are not plain JSON.
        """
        with self._engine.begin() as connection:
            self.append(connection, event, details)

    def entries(self) -> list[LogEntry]:
        """Returns the local log, oldest first, having checked that none of it was changed.

        Raises:
            AuditChainBroken: an entry was changed, removed or moved.
        """
        entries: list[LogEntry] = []
        head = ChainHead(0, GENESIS)
        with self._engine.begin() as connection:
            rows = connection.execute(sa.select(_log).order_by(_log.c.seq)).all()
        for row in rows:
            at, fields = datetime.fromisoformat(row.at), _fields(row.event, row.details)
            fault = link_fault(
                head, seq=row.seq, at=at, previous=row.previous, own=row.hash, fields=fields
            )
            if fault is not None:
                raise AuditChainBroken(*fault)
            head = ChainHead(row.seq, row.hash)
            entries.append(LogEntry(row.seq, at, row.event, fields["details"]))
        return entries

    def latest_time(self) -> datetime | None:
        """Returns the latest time of any entry of the local log, wherever it stands in it.

        Entries follow the clock, and a clock may have been set back since.
        """
        with self._engine.begin() as connection:
            latest: str | None = connection.scalar(sa.select(sa.func.max(_log.c.at)))
        return None if latest is None else datetime.fromisoformat(latest)

    def _pin(
        self, connection: Connection, hospital_id: str, keys: tuple[str, str], *, event: str
    ) -> None:
        signing_key, sealing_key = keys
        connection.execute(
            _identities.insert().values(
                hospital_id=hospital_id,
                signing_key=signing_key,
                sealing_key=sealing_key,
                pinned_at=timestamp(self._clock()),
            )
        )
        details = {"hospital": hospital_id, "signing": signing_key, "sealing": sealing_key}
        self.append(connection, event, details)

    def append(self, connection: Connection, event: str, details: Mapping[str, Any]) -> None:
        """Appends an entry to the local log within a transaction on the store's file."""
        last = connection.execute(
            sa.select(_log.c.seq, _log.c.hash).order_by(_log.c.seq.desc()).limit(1)
        ).one_or_none()
        seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
        at, text = self._clock(), canonical_json(plain(details))
        connection.execute(
            _log.insert().values(
                seq=seq,
                at=timestamp(at),
                event=event,
                details=text,
                previous=previous,
                hash=entry_hash(seq=seq, at=at, previous=previous, fields=_fields(event, text)),
            )
        )


def _fields(event: str, details: str) -> dict[str, Any]:
    return {"event": event, "details": json.loads(details)}
