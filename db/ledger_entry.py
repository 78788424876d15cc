"""An entry of a hospital's ledger, and the line of text that carries it out of the database.

    entry = read_line(line)
    check_chain(entries, where="ledger.jsonl")

A line is canonical JSON, so that equal entries are equal lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from db.chain import (
    GENESIS,
    ChainHead,
    canonical_json,
    entry_hash,
    link_fault,
    plain,
    timestamp,
)
from db.errors import LedgerBroken


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """An entry.

    Attributes:
        seq: its number, from 1, without gaps.
        at: when it was written, by the hospital's clock; no rule depends on it.
        batch: number of the first entry that was written with it, all or none.
        kind: what it records.
        details: plain JSON, by kind.
        previous: hash of the entry before.
        hash: its own, over all of the above.
    """

    seq: int
    at: datetime
    batch: int
    kind: str
    details: dict[str, Any]
    previous: str
    hash: str

    @classmethod
    def following(
        cls, head: ChainHead, *, at: datetime, batch: int, kind: str, details: Mapping[str, Any]
    ) -> Self:
        """Returns the entry after the head of a chain.

        Raises:
            ValueError: details that are not plain JSON.
        """
        seq, read = head.seq + 1, plain(details)
        fields = {"batch": batch, "kind": kind, "details": read}
        own = entry_hash(seq=seq, at=at, previous=head.hash, fields=fields)
        return cls(seq, at, batch, kind, read, head.hash, own)

    @property
    def head(self) -> ChainHead:
        """The head of the chain that ends here."""
        return ChainHead(self.seq, self.hash)

    def line(self) -> str:
        """Returns the entry as a line of canonical JSON, without its end."""
        return canonical_json(
            {
                "seq": self.seq,
                "at": timestamp(self.at),
                "batch": self.batch,
                "kind": self.kind,
                "details": self.details,
                "previous": self.previous,
                "hash": self.hash,
            }
        )


def head_of(entries: list[LedgerEntry]) -> ChainHead:
    """Returns the head of a chain, number 0 for one without entries."""
    return entries[-1].head if entries else ChainHead(0, GENESIS)


def read_line(line: str) -> LedgerEntry:
    """Returns the entry of a line; its hash is for ``check_chain`` to check.

    Raises:
        ValueError: the line is not what ``LedgerEntry.line`` writes.
    """
    try:
        fields = json.loads(line)
        fields["at"] = datetime.fromisoformat(fields["at"])
        entry = LedgerEntry(**fields)
        if entry.line() == line:
            return entry
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise ValueError("a line that is no entry")


def check_chain(
    entries: Iterable[LedgerEntry], *, where: str, after: ChainHead | None = None
) -> None:
    """Checks that entries follow one another, from the first or ``after`` a head known before.

    Raises:
        LedgerBroken: an entry was changed, removed or moved.
    """
    head = after or ChainHead(0, GENESIS)
    for entry in entries:
        fault = link_fault(
            head,
            seq=entry.seq,
            at=entry.at,
            previous=entry.previous,
            own=entry.hash,
            fields={"batch": entry.batch, "kind": entry.kind, "details": entry.details},
        )
        if fault is None and not 1 <= entry.batch <= entry.seq:
            fault = entry.seq, "was changed, or does not follow the one before"
        if fault is not None:
            raise LedgerBroken(where, *fault)
        head = entry.head
