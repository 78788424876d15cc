"""Holds a hospital's question for work until there is some, with one question upstream for all.

    while await dispatch.await_work(pool, deadline=deadline):
        runs = ...                                  # ask the Prefect server for this pool
        dispatch.looked(pool, found=bool(runs))
        if runs:
            return runs
    return []                                       # nothing came in time

1. A pool is marked when there may be work for it; only a marked pool asks the Prefect server.
2. One subscription to Prefect's events marks a pool the moment a run is scheduled in it.
3. A sweep, one query for all pools that wait, marks what the subscription does not tell: what was
   there before a pool's first poll, runs that were scheduled for later and become due, and what
   happened while the subscription was lost.
4. What the asking found takes the mark away, unless another came since the asking began.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol, Self

import tenacity

from api.gateway.scheduled import DueRun
from api.hub import Hub, Subscription, Topic, standing_of
from fl.names import POOL_PREFIX

_log = logging.getLogger(__name__)

SWEEP_S: Final = 10.0
# While the subscription is lost a run waits for the sweep.
SWEEP_ALONE_S: Final = 1.0
_SHORTEST_PAUSE_S: Final = 0.25
# Thousands come at once after a start: one sweep is for all who came meanwhile.
GATHERING_S: Final = 0.05
# Prefect sends the event of a new run before it commits the run.
SETTLING_S: Final = (0.02, 0.05, 0.1, 0.25, 0.5)
# A worker that is busy leaves its runs where they are: it is not to be told of them all the time.
AGAIN_S: Final = (0.25, 0.5, 1.0, 2.0)


class Upstream(Protocol):
    """What the dispatch needs of the Prefect server; see `api.gateway.scheduled`."""

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Subscribes to newly scheduled runs; yields the pool of each."""

    async def due(self, pools: Collection[str], *, before: datetime) -> Sequence[DueRun]:
        """Returns runs of these pools that are to begin before a time."""


@dataclass(slots=True, eq=False)
class _Pool:
    """Whether a pool may have work, counted: it is marked while ``marks`` exceeds ``cleared``.

    ``is_unknown`` until a sweep has looked, at first and after a time without a subscription.
    """

    marks: int = 0
    asked: int = 0
    cleared: int = 0
    is_unknown: bool = True
    was_announced: bool = False
    settling_s: tuple[float, ...] = ()
    found_in_a_row: int = 0
    look_again: asyncio.TimerHandle | None = None
    waiting: set[Subscription] = field(default_factory=set)

    @property
    def is_marked(self) -> bool:
        return self.marks > self.cleared

    def mark(self) -> None:
        self.marks += 1
        for subscription in self.waiting:
            subscription.wake()

    def announce(self) -> None:
        """Marks the pool for a run that a query may not see yet."""
        self.was_announced = True
        self.settling_s = SETTLING_S
        self.found_in_a_row = 0
        self.mark()

    def take_delay_s(self, *, found: bool) -> float | None:
        """Returns in how many seconds the pool is to be marked again, if at all."""
        if found:
            delay = AGAIN_S[min(self.found_in_a_row, len(AGAIN_S) - 1)]
            self.found_in_a_row += 1
            self.settling_s = ()
            self.was_announced = False
            return delay
        self.found_in_a_row = 0
        if not self.settling_s:
            return None
        delay, *left = self.settling_s
        self.settling_s = tuple(left)
        return delay


class Dispatch:
    """The polls of all hospitals that wait for work.

    Args:
        upstream: the Prefect server.
        hub: ends the waits when the API ends, and when a hospital's standing changes.
        now: the clock, in UTC, to compare with the times runs are scheduled for.
    """

    def __init__(self, upstream: Upstream, hub: Hub, *, now: Callable[[], datetime]) -> None:
        self._upstream = upstream
        self._hub = hub
        self._now = now
        self._pools: dict[str, _Pool] = {}
        self._is_subscribed = False
        self._sweep_now = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> Self:
        self._tasks = (
            asyncio.create_task(_for_ever(self._follow), name="dispatch: events"),
            asyncio.create_task(_for_ever(self._sweep), name="dispatch: sweep"),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in self._pools.values():
            if pool.look_again is not None:
                pool.look_again.cancel()

    async def await_work(self, pool: str, *, deadline: float) -> bool:
        """Waits until there may be work in a pool, until ``deadline`` in the event loop's time.

        Returns:
            True to ask the Prefect server for the pool's runs now, and to report to `looked`; False
            when the time is over, the API is ending, or the hospital's standing has changed: answer
            that there is nothing, and the next poll is judged anew.
        """
        state = self._pools.setdefault(pool, _Pool())
        if not state.is_marked:
            with self._hub.subscribe(_standings(pool)) as subscription:
                state.waiting.add(subscription)
                if state.is_unknown:
                    self._sweep_now.set()
                try:
                    woken = await subscription.wait(deadline)
                finally:
                    state.waiting.discard(subscription)
            if not woken or not state.is_marked:
                return False
        state.asked = state.marks
        return True

    def looked(self, pool: str, *, found: bool) -> None:
        """Reports what the Prefect server answered; not to be called when it did not answer."""
        state = self._pools[pool]
        state.cleared = max(state.cleared, state.asked)
        if state.look_again is not None:
            state.look_again.cancel()
            state.look_again = None
        if state.is_marked:
            return
        delay = state.take_delay_s(found=found)
        if delay is not None:
            state.look_again = asyncio.get_running_loop().call_later(delay, state.mark)
        elif state.was_announced:
            # It is for later: the sweep tells when.
            state.was_announced = False
            self._sweep_now.set()

    async def _follow(self) -> None:
        """Marks the pools that the subscription names, until it is lost."""
        async with self._upstream.events() as announced:
            self._is_subscribed = True
            try:
                self._catch_up()
                async for pool in announced:
                    # A pool that nobody has asked for yet is swept for at its first poll.
                    if pool in self._pools:
                        self._pools[pool].announce()
            finally:
                self._is_subscribed = False
                self._sweep_now.set()  # and in its quicker pace from now on

    def _catch_up(self) -> None:
        """Looks for what was scheduled while nobody listened: who waits at once, others later."""
        for pool in self._pools.values():
            pool.is_unknown = True
        self._sweep_now.set()

    async def _sweep(self) -> None:
        """Marks the waiting pools that have runs, then pauses."""
        self._sweep_now.clear()
        pause_s = SWEEP_S if self._is_subscribed else SWEEP_ALONE_S
        now = self._now()
        waiting = {name: pool for name, pool in self._pools.items() if pool.waiting}
        if waiting:
            # Before the query: what is lost during it has to be looked for again.
            unknown = [pool for pool in waiting.values() if pool.is_unknown]
            for pool in unknown:
                pool.is_unknown = False
            try:
                due = await self._upstream.due(waiting, before=now + timedelta(seconds=pause_s))
            except Exception:
                for pool in unknown:
                    pool.is_unknown = True
                raise
            for run in due:
                if run.at <= now:
                    waiting[run.pool].mark()
                else:
                    pause_s = min(pause_s, (run.at - now).total_seconds())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._sweep_now.wait(), max(pause_s, _SHORTEST_PAUSE_S))
            await asyncio.sleep(GATHERING_S)


def _standings(pool: str) -> tuple[Topic, ...]:
    # The pool of "charite" is "hospital-charite", that of "hospital-1" is "hospital-1".
    return (standing_of(pool), standing_of(pool.removeprefix(POOL_PREFIX)))


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    """Does work again and again; after a failure, whatever it was, with a pause before it."""
    retrying = tenacity.AsyncRetrying(
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=5.0),
        before_sleep=tenacity.before_sleep_log(_log, logging.WARNING),
    )
    while True:
        await retrying(work)
