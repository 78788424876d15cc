"""A check and how its findings are shown: one line each, ``ok``, ``warn`` or ``fail``.

    def check_sky(place: Place) -> Iterator[Finding]:
        yield ok("blue")

    run_checks([Check("sky", check_sky)], place, show=print)        # False when one fails

A check says what it found and, unless all is well, what to do. One that raises has failed, with its
error as the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tasks.hospital.site import SiteSettings


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    state: Literal["ok", "warn", "fail"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is checked.

    Attributes:
        settings: the site.
        data_path: its table; None when nobody has named one.
        now: the clock, in UTC.
    """

    settings: SiteSettings
    data_path: Path | None
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Check:
    """A name and what it does; the findings come in the order in which they are shown."""

    name: str
    run: Callable[[Place], Iterable[Finding]]


def ok(text: str) -> Finding:
    """All is well."""
    return Finding("ok", text)


def warn(text: str) -> Finding:
    """It works, but somebody should look."""
    return Finding("warn", text)


def fail(text: str) -> Finding:
    """A round would fail."""
    return Finding("fail", text)


def run_checks(checks: Iterable[Check], place: Place, *, show: Callable[[str], None]) -> bool:
    """Runs the checks and shows each finding as a line; returns whether none has failed."""
    passed = True
    for check in checks:
        for finding in _findings(check, place):
            passed = passed and finding.state != "fail"
            show(f"{finding.state:<4}  {check.name:<12} {finding.text}")
    return passed


def _findings(check: Check, place: Place) -> Iterator[Finding]:
    try:
        yield from check.run(place)
    except Exception as error:
        # A check that cannot be carried out is a finding too, and must not hide those after it.
        yield fail(f"{type(error).__name__}: {error}")
