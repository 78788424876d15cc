"""Waiting after failures, on a real database and a clock of the test's own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from api.auth.throttle import (
    Throttle,
    TooManyFailures,
    account,
    address,
    client,
    require_patience,
    throttled,
)
from db.models import FailedSignIns
from db.queries.sign_ins import ACCOUNT, ADDRESS, LONGEST_WAIT_S, Bound
from db.session import transaction

pytestmark = pytest.mark.integration


class Wrong(Exception):
    pass


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(engine: Engine, clock: Clock, *throttles: Throttle) -> None:
    with (
        pytest.raises(Wrong),
        throttled(engine, throttles, now=clock, failure=Wrong),
    ):
        raise Wrong


def succeed(engine: Engine, clock: Clock, *throttles: Throttle) -> None:
    with throttled(engine, throttles, now=clock, failure=Wrong):
        pass


def wait_of(engine: Engine, clock: Clock, *throttles: Throttle) -> int:
    try:
        require_patience(engine, throttles, now=clock())
    except TooManyFailures as error:
        return error.retry_after_s
    return 0


def test_waits_double_after_the_free_failures_up_to_the_longest(
    engine: Engine, clock: Clock
) -> None:
    peer, waits = address("203.0.113.7"), []
    for _ in range(18):
        fail(engine, clock, peer)
        waits.append(wait_of(engine, clock, peer))
        clock.pass_s(waits[-1])
    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]


def test_who_waits_is_not_let_in_and_waits_no_longer_for_asking(
    engine: Engine, clock: Clock
) -> None:
    peer = address("203.0.113.7")
    for _ in range(5):
        fail(engine, clock, peer)
    for _ in range(3):
        with pytest.raises(TooManyFailures, match="1 s"):
            succeed(engine, clock, peer)
    clock.pass_s(1)
    succeed(engine, clock, peer)


def test_a_success_clears_the_account_and_not_the_address(engine: Engine, clock: Clock) -> None:
    ada, peer = account("ada"), address("203.0.113.7")
    for _ in range(5):
        fail(engine, clock, ada, peer)
    clock.pass_s(1)
    succeed(engine, clock, ada, peer)
    with transaction(engine) as session:
        assert session.scalars(select(FailedSignIns.key)).all() == [peer.key]
    fail(engine, clock, ada, peer)
    assert wait_of(engine, clock, peer) == 2
    assert wait_of(engine, clock, ada) == 0


def test_a_stranger_at_one_address_cannot_keep_an_account_locked(
    engine: Engine, clock: Clock
) -> None:
    ada, stranger, home = account("ada"), address("203.0.113.7"), address("198.51.100.1")
    locked_s = whole_s = 0.0
    for _ in range(200):  # as often as the stranger may
        fail(engine, clock, ada, stranger)
        pause = wait_of(engine, clock, ada, stranger)
        locked_s += min(wait_of(engine, clock, ada, home), pause)
        whole_s += pause
        clock.pass_s(pause)
    assert whole_s > 150_000
    assert locked_s < 200
    assert wait_of(engine, clock, ada, home) == 0


def test_many_addresses_lock_an_account_for_a_while(engine: Engine, clock: Clock) -> None:
    ada = account("ada")
    for n in range(10):
        fail(engine, clock, ada, address(f"203.0.113.{n}"))
    assert wait_of(engine, clock, ada) == 1
    clock.pass_s(LONGEST_WAIT_S)
    fail(engine, clock, ada)  # forgotten: it counts from one again
    assert wait_of(engine, clock, ada) == 0


def test_a_client_with_an_old_secret_keeps_nobody_else_waiting(
    engine: Engine, clock: Clock
) -> None:
    for _ in range(9):
        fail(engine, clock, client("north", "203.0.113.7"))
        clock.pass_s(wait_of(engine, clock, client("north", "203.0.113.7")) - 0.5)
        clock.pass_s(0.5)
    fail(engine, clock, client("north", "203.0.113.7"))
    assert wait_of(engine, clock, client("north", "203.0.113.7")) == 32
    assert wait_of(engine, clock, client("south", "203.0.113.7")) == 0
    assert wait_of(engine, clock, client("north", "198.51.100.1")) == 0


def test_failures_at_the_same_time_all_count(engine: Engine, clock: Clock) -> None:
    ada, together = account("ada"), threading.Barrier(4)

    def raise_together() -> None:
        together.wait()
        raise Wrong

    def try_it(_: int) -> None:
        with (
            pytest.raises(Wrong),
            throttled(engine, [address("203.0.113.7"), ada], now=clock, failure=Wrong),
        ):
            raise_together()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(try_it, range(4)))
    with transaction(engine) as session:
        assert session.scalars(select(FailedSignIns.failures)).all() == [4, 4]


def test_keys_say_nothing_of_what_was_typed(engine: Engine, clock: Clock) -> None:
    fail(engine, clock, account("my password\udcff"), client("a", "b"))
    with transaction(engine) as session:
        keys = session.scalars(select(FailedSignIns.key)).all()
    assert not any("password" in key for key in keys)
    assert len(set(keys)) == 2
    assert client("a", "b").key != client("ab", "").key


def test_what_nobody_counts_any_more_is_purged(engine: Engine, clock: Clock) -> None:
    fail(engine, clock, address("203.0.113.7"))
    clock.pass_s(24 * 3600)
    assert wait_of(engine, clock, address("203.0.113.7")) == 0
    fail(engine, clock, address("198.51.100.1"))
    with transaction(engine) as session:
        assert session.scalars(select(FailedSignIns.key)).all() == [address("198.51.100.1").key]


@pytest.mark.parametrize("bound", [ADDRESS, ACCOUNT])
@given(failures=st.integers(0, 2**31 - 1))
def test_more_failures_never_wait_less(bound: Bound, failures: int) -> None:
    wait: Any = bound.wait_s
    assert 0 <= wait(failures) <= wait(failures + 1) <= LONGEST_WAIT_S
