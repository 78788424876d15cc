"""When a hospital answers: windows of local time such as ``mon-fri 20:00-06:00``.

parse_hours("sat,sun 00:00-24:00").holds(local_time)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from pydantic import PlainValidator

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 24 * 60
_TEXT: Final = re.compile(
    r"([a-z]{3}(?:[-,][a-z]{3})*) ([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})"
)


@dataclass(frozen=True, slots=True)
class OpeningHours:
    """A window on some days of the week; one that passes midnight belongs to the day it opens.

    Attributes:
        days: weekdays, Monday is 0.
        opens: minute of the day at which it opens.
        closes: minute at which it is closed again, up to 1440.
    """

    days: frozenset[int]
    opens: int
    closes: int

    def __str__(self) -> str:
        days = ",".join(_DAYS[day] for day in sorted(self.days))
        return f"{days} {_clock(self.opens)}-{_clock(self.closes)}"

    def holds(self, local: datetime) -> bool:
        """Whether a local time lies within the window."""
        today, minute = local.weekday(), 60 * local.hour + local.minute
        if self.opens < self.closes:
            return today in self.days and self.opens <= minute < self.closes
        since_yesterday = (today - 1) % 7 in self.days and minute < self.closes
        return (today in self.days and minute >= self.opens) or since_yesterday


def parse_hours(value: object) -> OpeningHours:
    """Reads a window.

    Raises:
        ValueError: it is not of that form, or is empty.
    """
    match = _TEXT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not of the form 'mon-fri 20:00-06:00'")
    days, *clock = match.groups()
    opens, closes = (60 * int(h) + int(m) for h, m in (clock[:2], clock[2:]))
    if any(int(minutes) > 59 for minutes in clock[1::2]) or max(opens, closes) > _DAY_MINUTES:
        raise ValueError(f"{value!r}: times run from 00:00 to 24:00")
    if opens == closes or opens == _DAY_MINUTES:
        raise ValueError(f"{value!r}: the window is empty; a whole day is 00:00-24:00")
    return OpeningHours(_days(days), opens, closes)


Hours = Annotated[OpeningHours, PlainValidator(parse_hours)]


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, *rest = (_day(name) for name in part.split("-"))
        if len(rest) > 1:
            raise ValueError(f"{part!r}: a range has two days, such as mon-fri")
        last = rest[0] if rest else first
        found.update((first + step) % 7 for step in range((last - first) % 7 + 1))
    return frozenset(found)


def _day(name: str) -> int:
    if name not in _DAYS:
        raise ValueError(f"{name!r} is no day; the days are {', '.join(_DAYS)}")
    return _DAYS.index(name)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
