"""A dispatch with a fake Prefect, in a time that passes at once while nothing is left to do."""

from __future__ import annotations

import asyncio
import math
import selectors
import socket
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.gateway.dispatch import GATHERING_S, Dispatch
from api.gateway.scheduled import DueRun
from api.hub import Hub
from api.prefect_api import PrefectUnavailable
from db.notify import Notice

START = datetime(2026, 11, 1, tzinfo=UTC)
POOL = "hospital-charite"
_LONGEST_LEAP_S = 3600.0


class _Selector(selectors.DefaultSelector):
    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout > _LONGEST_LEAP_S:
            return super().select()  # only another thread can have something to do
        ready = super().select(0)
        if not ready:
            self.skipped_s += max(timeout, 0.0)
        return ready


class _LeapingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._leaps = _Selector()
        super().__init__(self._leaps)

    def time(self) -> float:
        return self._leaps.skipped_s


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return ("asyncio", {"loop_factory": _LeapingLoop})


def _clock() -> float:
    return asyncio.get_running_loop().time()


class FakePrefect:
    """Runs and their events; can lose the subscription, refuse new ones and be away."""

    def __init__(self) -> None:
        self.runs: list[DueRun] = []
        self.sent: asyncio.Queue[str | Exception] = asyncio.Queue()
        self.opened = 0
        self.sends_events = True
        self.is_away = False
        self.queries: list[set[str]] = []

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[str]]:
        if self.is_away or not self.sends_events:
            raise PrefectUnavailable("nobody there")
        self.opened += 1
        yield self._announced()

    async def _announced(self) -> AsyncIterator[str]:
        while True:
            sent = await self.sent.get()
            if isinstance(sent, Exception):
                raise sent
            yield sent

    async def due(self, pools: Collection[str], *, before: datetime) -> list[DueRun]:
        if self.is_away:
            raise PrefectUnavailable("nobody there")
        self.queries.append(set(pools))
        return [run for run in self.runs if run.pool in pools and run.at < before]

    def schedule(self, pool: str = POOL, *, in_s: float = 0.0) -> None:
        """A run that no event tells of."""
        self.runs.append(DueRun(pool, START + timedelta(seconds=_clock() + in_s)))

    def announce(self, pool: str = POOL) -> None:
        self.sent.put_nowait(pool)

    def lose(self) -> None:
        self.sent.put_nowait(PrefectUnavailable("gone"))


class FakeDatabase:
    """Notifies of what is put into it."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._notices: list[Notice] = []

    @contextmanager
    def listener(self) -> Iterator[FakeDatabase]:
        yield self

    def fileno(self) -> int:
        return self._theirs.fileno()

    def wait(self, timeout_s: float) -> list[Notice]:
        notices, self._notices = self._notices, []
        if notices:
            self._theirs.recv(len(notices))
        return notices

    def put(self, notice: Notice) -> None:
        self._notices.append(notice)
        self._ours.send(b"!")

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


@dataclass
class Gateway:
    """The dispatch, what is around it, and the route that asks."""

    dispatch: Dispatch
    prefect: FakePrefect
    hub: Hub
    database: FakeDatabase

    @property
    def clock(self) -> float:
        return _clock()

    async def wait(self, pool: str = POOL, *, seconds: float = 50.0) -> bool:
        return await self.dispatch.await_work(pool, deadline=_clock() + seconds)

    async def settle(self, pool: str = POOL) -> None:
        """Goes past the first sweep for a pool."""
        assert not await self.wait(pool, seconds=2 * GATHERING_S)
        self.prefect.queries.clear()


@pytest.fixture
def database() -> Iterator[FakeDatabase]:
    made = FakeDatabase()
    yield made
    made.close()


@pytest.fixture
async def prefect() -> FakePrefect:
    return FakePrefect()


@pytest.fixture
async def gateway(prefect: FakePrefect, database: FakeDatabase) -> AsyncIterator[Gateway]:
    async with Hub(database.listener) as hub:
        with hub.subscribe([("", "", "")]) as first:
            await first.wait(math.inf)  # it listens: all who wait have looked again
        now = lambda: START + timedelta(seconds=_clock())  # noqa: E731
        async with Dispatch(prefect, hub, now=now) as dispatch:
            await asyncio.sleep(2 * GATHERING_S)  # it has tried to subscribe, and swept for nobody
            yield Gateway(dispatch, prefect, hub, database)
