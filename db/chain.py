"""Hash chains: a record in which each entry carries the hash of the one before.

    digest = entry_hash(seq=1, at=now, previous=GENESIS, fields={"action": "round.completed"})

Whoever changes, removes or reorders an entry changes every hash after it; whoever holds an earlier
head (the last entry's number and hash) can show it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

GENESIS: Final = "0" * 64
"""What the first entry carries as the hash of the one before."""


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The last entry of a chain: its number, from 1, and its hash."""

    seq: int
    hash: str


def canonical_json(value: object) -> str:
    """Returns the one JSON text of a value: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: it holds something that JSON cannot.

    >>> canonical_json({"b": 1.5, "a": [True, None]})
    '{"a":[true,null],"b":1.5}'
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        text.encode()  # a lone surrogate has no bytes
    except (TypeError, ValueError) as error:
        raise ValueError(f"the details of an event must be plain JSON: {error}") from error
    return text


def plain(details: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the details as they will be read back: tuples become lists, keys become text."""
    read: dict[str, Any] = json.loads(canonical_json(details))
    return read


def entry_hash(*, seq: int, at: datetime, previous: str, fields: Mapping[str, Any]) -> str:
    """Returns an entry's SHA-256, hex, over the canonical JSON of all that it holds.

    Raises:
        ValueError: ``at`` has no time zone, or a field is not plain JSON.
    """
    whole = {**fields, "seq": seq, "at": timestamp(at), "previous": previous}
    return hashlib.sha256(canonical_json(whole).encode()).hexdigest()


def link_fault(
    head: ChainHead, *, seq: int, at: datetime, previous: str, own: str, fields: Mapping[str, Any]
) -> tuple[int, str] | None:
    """Returns what is wrong with an entry as the one after a head: its number and words, or None.

    Args:
        head: of the entries before.
        seq: the number that the entry carries.
        at: its time.
        previous: the hash of the entry before, as it carries it.
        own: its own hash, as it carries it.
        fields: all else that it holds.
    """
    if seq != head.seq + 1:
        return head.seq + 1, "is missing"
    found = entry_hash(seq=seq, at=at, previous=head.hash, fields=fields)
    if (previous, own) != (head.hash, found):
        return seq, "was changed, or does not follow the one before"
    return None


def timestamp(at: datetime) -> str:
    """Returns a time in UTC to the microsecond, as it is hashed.

    >>> timestamp(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02T03:04:05.000000+00:00'
    """
    if at.tzinfo is None:
        raise ValueError(f"the time {at} has no time zone")
    return at.astimezone(UTC).isoformat(timespec="microseconds")
