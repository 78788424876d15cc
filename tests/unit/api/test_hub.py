from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from api.hub import Hub, closed, posted, revocation_of, standing_of
from db.errors import ListenerLost
from db.notify import Notice

pytestmark = pytest.mark.anyio
ROUND = UUID("6f1c1c1e-0000-4000-8000-000000000001")


class FakeDatabase:
    """Hands notices to whoever listens; can lose the connection and refuse new ones."""

    def __init__(self) -> None:
        self.arrived: deque[Notice | Exception] = deque()
        self.ours, self.theirs = socket.socketpair()
        self.opened = 0
        self.closed = 0
        self.refuse_next = 0

    @contextmanager
    def listener(self) -> Iterator[FakeDatabase]:
        if self.refuse_next:
            self.refuse_next -= 1
            raise OSError("connection refused")
        self.opened += 1
        try:
            yield self
        finally:
            self.closed += 1

    def fileno(self) -> int:
        return self.theirs.fileno()

    def wait(self, timeout_s: float) -> list[Notice]:
        assert timeout_s == 0
        if not self.arrived:
            return []
        self.theirs.recv(1)
        notice = self.arrived.popleft()
        if isinstance(notice, Exception):
            raise notice
        return [notice]

    def put(self, notice: Notice | Exception) -> None:
        self.arrived.append(notice)
        self.ours.send(b"!")

    def post(self, hospital_id: str, kind: str) -> None:
        self.put(Notice(round_id=ROUND, hospital_id=hospital_id, kind=kind))

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


def soon() -> float:
    return asyncio.get_running_loop().time() + 5


def at_once() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def database() -> Iterator[FakeDatabase]:
    made = FakeDatabase()
    yield made
    made.close()


async def settled(database: FakeDatabase) -> None:
    """Until the listener listens and its first wake-up of everyone has run."""
    async with asyncio.timeout(5):
        while not database.opened:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("topic", "hospital_id", "kind"),
    [
        (posted(ROUND, "north", "cohort"), "north", "cohort"),
        (closed(ROUND), "", "closed"),
    ],
)
async def test_wakes_who_waits_for_it(
    database: FakeDatabase, topic: tuple[str, str, str], hospital_id: str, kind: str
) -> None:
    async with Hub(database.listener) as hub:
        await settled(database)
        with hub.subscribe([topic]) as subscription:
            database.post(hospital_id, kind)
            assert await subscription.wait(soon())
        assert hub.waiting == 0


@pytest.mark.parametrize(
    ("topic", "whom", "kind"),
    [
        (standing_of("north"), "north", "standing"),
        (revocation_of(ROUND), str(ROUND), "revoked"),
    ],
)
async def test_wakes_who_waits_for_what_is_of_no_round(
    database: FakeDatabase, topic: tuple[str, str, str], whom: str, kind: str
) -> None:
    async with Hub(database.listener) as hub:
        await settled(database)
        with hub.subscribe([topic]) as subscription:
            database.put(Notice(round_id=None, hospital_id="another", kind=kind))
            assert not await subscription.wait(at_once() + 0.05)
            database.put(Notice(round_id=None, hospital_id=whom, kind=kind))
            assert await subscription.wait(soon())


class Watching:
    """Writes down what a watcher is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def listening(self) -> None:
        self.told.append("listening")

    def heard(self, notice: Notice) -> None:
        self.told.append(notice.kind)

    def lost(self) -> None:
        self.told.append("lost")


async def test_a_watcher_hears_all_and_when_nothing_is_heard(database: FakeDatabase) -> None:
    watcher = Watching()
    async with Hub(database.listener, watcher=watcher) as hub:
        await settled(database)
        with hub.subscribe([posted(ROUND, "north", "cohort")]) as subscription:
            database.post("south", "standing")
            database.post("north", "cohort")
            assert await subscription.wait(soon())
            # Before any waiter wakes, so that what it looks at is not from before the notice.
            assert watcher.told == ["listening", "standing", "cohort"]
        database.put(ListenerLost("gone"))
        async with asyncio.timeout(5):
            while watcher.told[3:] != ["lost", "listening"]:
                await asyncio.sleep(0.005)
    assert watcher.told[-1] == "lost"


async def test_leaves_the_others_asleep(database: FakeDatabase) -> None:
    async with Hub(database.listener) as hub:
        await settled(database)
        with (
            hub.subscribe([posted(ROUND, "north", "cohort")]) as north,
            hub.subscribe([posted(ROUND, "south", "cohort")]) as south,
            hub.subscribe([posted(ROUND, "north", "survivors")]) as survivors,
        ):
            assert hub.waiting == 3
            database.post("north", "cohort")
            assert await north.wait(soon())
            assert not await south.wait(at_once())
            assert not await survivors.wait(at_once())


async def test_a_wake_up_before_the_wait_is_not_lost(database: FakeDatabase) -> None:
    async with Hub(database.listener) as hub:
        await settled(database)
        with (
            hub.subscribe([posted(ROUND, "north", "survivors")]) as first,
            hub.subscribe([posted(ROUND, "north", "survivors")]) as second,
        ):
            database.post("north", "survivors")
            assert await first.wait(soon())
            assert await second.wait(at_once() + 0.001)
            assert not await second.wait(at_once())


async def test_two_topics_wake_one_waiter(database: FakeDatabase) -> None:
    async with Hub(database.listener) as hub:
        await settled(database)
        with hub.subscribe([posted(ROUND, "north", "cohort"), closed(ROUND)]) as subscription:
            assert hub.waiting == 1
            database.post("", "closed")
            assert await subscription.wait(soon())


async def test_a_new_connection_has_everyone_look_again(
    database: FakeDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="api.hub")
    async with Hub(database.listener) as hub:
        await settled(database)
        with hub.subscribe([posted(ROUND, "north", "survivors")]) as subscription:
            database.refuse_next = 2
            database.put(ListenerLost("gone"))
            assert await subscription.wait(soon())
    assert database.opened == database.closed == 2
    assert "gone" in caplog.text


async def test_the_end_ends_all_waits_at_once(database: FakeDatabase) -> None:
    async with Hub(database.listener) as hub:
        await settled(database)
        with hub.subscribe([posted(ROUND, "north", "survivors")]) as subscription:
            waiting = asyncio.create_task(subscription.wait(soon()))
            await asyncio.sleep(0)
            hub.end_waits_from_signal()
            assert await waiting is False
            assert await subscription.wait(soon()) is False
        with hub.subscribe([posted(ROUND, "north", "survivors")]) as late:
            assert await late.wait(soon()) is False
    assert database.closed == database.opened


async def test_ends_while_the_database_is_away(database: FakeDatabase) -> None:
    database.refuse_next = 1000
    async with asyncio.timeout(3):
        async with Hub(database.listener):
            while database.refuse_next == 1000:
                await asyncio.sleep(0.005)
    assert database.opened == 0


async def test_a_signal_before_the_start_is_harmless(database: FakeDatabase) -> None:
    hub = Hub(database.listener)
    hub.end_waits_from_signal()
    async with hub:
        assert hub.waiting == 0


async def test_notices_that_nobody_waits_for_are_harmless(database: FakeDatabase) -> None:
    async with Hub(database.listener) as hub:
        await settled(database)
        database.post("nobody", "unheard-of")
        with hub.subscribe([posted(ROUND, "north", "survivors")]) as subscription:
            database.post("north", "survivors")
            assert await subscription.wait(soon())
