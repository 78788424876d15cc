"""Wakes long polls when something is posted, without asking the database again and again.

    async with hub.subscribe({posted(round_id, hospital_id, "cohort")}) as subscription:
        while (found := await look()) is None:
            if not await subscription.wait(deadline):
                return None            # nothing came in time, or the server is going down

One thread of the process listens to PostgreSQL; a waiter is an event in memory. To lose no wake-up,
a waiter subscribes first, then looks, then waits.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol, Self
from uuid import UUID

import psycopg2
import tenacity
from sqlalchemy.exc import SQLAlchemyError

from db.errors import DatabaseError
from db.notify import REVOKED, STANDING, Notice

_log = logging.getLogger(__name__)

Topic = tuple[str, str, str]
CLOSED: Final = "closed"
_LOST: Final = (SQLAlchemyError, psycopg2.Error, OSError, DatabaseError)


class Listening(Protocol):
    """What the hub needs of ``db.notify.Listener``."""

    def fileno(self) -> int:
        """Returns a socket that is readable when something may have been notified."""

    def wait(self, timeout_s: float) -> list[Notice]:
        """Returns what was notified, after ``timeout_s`` seconds at most."""


class Watcher(Protocol):
    """Whoever wants to hear notices in the hub's own thread, before any waiter wakes."""

    def listening(self) -> None:
        """From now on, what is notified is heard."""

    def heard(self, notice: Notice) -> None:
        """This was notified."""

    def lost(self) -> None:
        """From now on, notices may be missed."""


OpenListener = Callable[[], AbstractContextManager[Listening]]


def posted(round_id: UUID, hospital_id: str, kind: str) -> Topic:
    """A message of a kind to or from a hospital in a round."""
    return (str(round_id), hospital_id, kind)


def closed(round_id: UUID) -> Topic:
    """The end of a round."""
    return (str(round_id), "", CLOSED)


def standing_of(hospital_id: str) -> Topic:
    """A change of what a hospital may do: suspended, taken back, left, other credentials."""
    return ("", hospital_id, STANDING)


def revocation_of(token_id: UUID) -> Topic:
    """A token is refused from now on, though it has not expired."""
    return ("", str(token_id), REVOKED)


class Subscription:
    """One waiter's place; not shared between tasks."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._woken = False
        self._ended = False

    async def wait(self, deadline: float) -> bool:
        """Waits for a wake-up until ``deadline``, in the event loop's time.

        Returns:
            True to look again; False when the time is over or the server is going down.
        """
        if self._ended:
            return False
        timer = asyncio.get_running_loop().call_at(deadline, self._event.set)
        try:
            await self._event.wait()
        finally:
            timer.cancel()
        self._event.clear()
        woken, self._woken = self._woken, False
        return woken and not self._ended

    def wake(self) -> None:
        """Has the waiter look again."""
        self._woken = True
        self._event.set()

    def end(self) -> None:
        """Has the waiter give up."""
        self._ended = True
        self._event.set()


class Hub:
    """The waiters of this process and the thread that wakes them.

    Args:
        open_listener: opens a listener on the database; called again after a lost connection.
        watcher: hears all notices, and whether they are heard.
    """

    def __init__(self, open_listener: OpenListener, *, watcher: Watcher | None = None) -> None:
        self._open_listener = open_listener
        self._watcher = watcher
        self._waiters: dict[Topic, set[Subscription]] = {}
        self._stop = threading.Event()
        # The thread sleeps on this and on the listener's socket: it wakes for notices and for its
        # end, and never just to see whether there is one.
        self._wake_thread, self._thread_wakes = socket.socketpair()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._listen_until_stopped, name="hub", daemon=True)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end_waits()
        await asyncio.to_thread(self._thread.join)
        self._wake_thread.close()
        self._thread_wakes.close()

    @contextmanager
    def subscribe(self, topics: Iterable[Topic]) -> Iterator[Subscription]:
        """Takes part in the wake-ups of the topics while the block runs."""
        subscription = Subscription()
        topics = tuple(topics)
        if self._stop.is_set():
            subscription.end()
        for topic in topics:
            self._waiters.setdefault(topic, set()).add(subscription)
        try:
            yield subscription
        finally:
            for topic in topics:
                waiters = self._waiters[topic]
                waiters.discard(subscription)
                if not waiters:
                    del self._waiters[topic]

    @property
    def waiting(self) -> int:
        """Waiters at this moment."""
        return len(self._all())

    def end_waits(self) -> None:
        """Ends all waits now and refuses new ones; called in the event loop."""
        if not self._stop.is_set():
            self._stop.set()
            self._wake_thread.send(b"!")
        for waiter in self._all():
            waiter.end()

    def end_waits_from_signal(self) -> None:
        """As `end_waits`, from a signal handler or another thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.end_waits)

    def _all(self) -> set[Subscription]:
        return {waiter for waiters in self._waiters.values() for waiter in waiters}

    def _wake_all(self) -> None:
        for waiter in self._all():
            waiter.wake()

    def _wake(self, notices: list[Notice]) -> None:
        for notice in notices:
            topic = (str(notice.round_id or ""), notice.hospital_id, notice.kind)
            for waiter in self._waiters.get(topic, ()):
                waiter.wake()

    def _listen_until_stopped(self) -> None:
        """The thread: listens, and opens a new connection whenever one is lost."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_LOST),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=5.0),
            sleep=tenacity.sleep_using_event(self._stop),
            stop=tenacity.stop_when_event_set(self._stop),
            before_sleep=tenacity.before_sleep_log(_log, logging.WARNING),
            retry_error_callback=lambda _: None,
        )
        while not self._stop.is_set():
            retrying(self._listen)

    def _listen(self) -> None:
        """Listens on one connection until it is lost or the hub stops."""
        loop = self._loop
        assert loop is not None  # noqa: S101 - __aenter__ sets it before the thread starts
        with (
            self._open_listener() as listener,
            self._watched(),
            selectors.DefaultSelector() as ready,
        ):
            ready.register(listener, selectors.EVENT_READ)
            ready.register(self._thread_wakes, selectors.EVENT_READ)
            # Whatever was posted while nobody listened is in the tables: have everyone look.
            loop.call_soon_threadsafe(self._wake_all)
            while not self._stop.is_set():
                if notices := listener.wait(0):
                    self._show_watcher(notices)
                    loop.call_soon_threadsafe(self._wake, notices)
                else:
                    ready.select()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Tells the watcher that notices are heard while the block runs."""
        if self._watcher is None:
            yield
            return
        self._watcher.listening()
        try:
            yield
        finally:
            self._watcher.lost()

    def _show_watcher(self, notices: list[Notice]) -> None:
        if self._watcher is not None:
            for notice in notices:
                self._watcher.heard(notice)
