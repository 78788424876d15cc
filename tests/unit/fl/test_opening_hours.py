"""Windows of local time: what holds, and what is no window."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.opening_hours import parse_hours

MONDAY = datetime(2026, 1, 5)  # a Monday, midnight
MINUTES = st.integers(0, 7 * 24 * 60 - 1).map(lambda minute: MONDAY + timedelta(minutes=minute))


@pytest.mark.parametrize(
    ("window", "day", "clock", "holds"),
    [
        ("mon-fri 08:00-18:00", 0, "08:00", True),
        ("mon-fri 08:00-18:00", 0, "07:59", False),
        ("mon-fri 08:00-18:00", 4, "17:59", True),
        ("mon-fri 08:00-18:00", 4, "18:00", False),
        ("mon-fri 08:00-18:00", 5, "12:00", False),
        ("mon-fri 20:00-06:00", 0, "05:00", False),  # Sunday's night is not in it
        ("mon-fri 20:00-06:00", 0, "20:00", True),
        ("mon-fri 20:00-06:00", 5, "05:59", True),  # Friday's is
        ("mon-fri 20:00-06:00", 5, "06:00", False),
        ("sun 20:00-06:00", 0, "05:00", True),
        ("sat,sun 00:00-24:00", 6, "23:59", True),
        ("sat,sun 00:00-24:00", 0, "00:00", False),
        ("sat-mon 09:00-10:00", 6, "09:30", True),
        ("sat-mon 09:00-10:00", 1, "09:30", False),
        ("wed 23:00-00:00", 2, "23:59", True),
        ("wed 23:00-00:00", 3, "00:00", False),
    ],
)
def test_a_window_holds(window: str, day: int, clock: str, holds: bool) -> None:
    hour, minute = map(int, clock.split(":"))
    local = MONDAY + timedelta(days=day, hours=hour, minutes=minute)
    assert parse_hours(window).holds(local) is holds


@given(MINUTES, st.integers(0, 23), st.integers(0, 23))
def test_a_window_and_its_opposite_share_the_week(local: datetime, opens: int, closes: int) -> None:
    if opens == closes:
        return
    window = parse_hours(f"mon-sun {opens:02}:00-{closes:02}:00")
    opposite = parse_hours(f"mon-sun {closes:02}:00-{opens:02}:00")
    assert window.holds(local) is not opposite.holds(local)


@given(st.sampled_from(["mon", "fri-mon", "tue,thu"]), st.integers(0, 23), st.integers(1, 24))
def test_a_window_is_read_back_from_its_text(days: str, opens: int, closes: int) -> None:
    if opens == closes:
        return
    window = parse_hours(f"{days} {opens:02}:30-{closes:02}:00")
    assert parse_hours(str(window)) == window


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("20:00-06:00", "is not of the form 'mon-fri 20:00-06:00'"),
        ("mon 8:00-9:00", "is not of the form"),
        (1200, "1200 is not of the form"),
        ("mon 08:00-09:60", "times run from 00:00 to 24:00"),
        ("mon 08:00-25:00", "times run from"),
        ("mon 08:00-24:01", "times run from"),
        ("mon 08:00-08:00", "the window is empty"),
        ("mon 24:00-08:00", "the window is empty"),
        ("day 08:00-09:00", "'day' is no day; the days are mon, tue"),
        ("mon-tue-wed 08:00-09:00", "a range has two days"),
    ],
)
def test_what_is_no_window_is_refused(text: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_hours(text)
