"""The gateway benchmark's clients: one request at a time, many at a time, and very many idle ones.

Plain sockets with HTTP/1.1: a client library would take more of a small machine than the server
that is measured. What runs at length runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final, Self, TypeVar

from deployments.settings import LOOPBACK

T = TypeVar("T")
_OPEN_AT_A_TIME: Final = 50
SUCCESS: Final = (200, 201, 204)


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a server on this machine."""

    port: int
    method: str
    path: str
    authorization: str = ""
    body: Any = None

    def encode(self) -> bytes:
        """Returns the request's bytes."""
        body = b"" if self.body is None else json.dumps(self.body).encode()
        lines = [
            f"{self.method} {self.path} HTTP/1.1",
            f"Host: {LOOPBACK}:{self.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        if self.authorization:
            lines.append(f"Authorization: {self.authorization}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True)
class Paths:
    """One client's way to Prefect: straight, or through the gateway."""

    port: int
    prefix: str
    authorization: str = ""

    def call(self, method: str, path: str, body: Any = None) -> Call:
        """Returns a call of Prefect's API."""
        return Call(self.port, method, self.prefix + path, self.authorization, body)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status and body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Parses the body."""
        return json.loads(self.body)


class Connection:
    """A kept-alive connection, opened anew when the server has ended it; one request at a time."""

    def __init__(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._port = port
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connects to a server on this machine."""
        return cls(port, *await asyncio.open_connection(LOOPBACK, port))

    async def ask(self, call: Call) -> Reply:
        """Sends a request and reads the answer, which has to tell its length."""
        return await self.send(call.encode())

    async def send(self, request: bytes) -> Reply:
        """As `ask`, with the request's bytes."""
        if self._reader.at_eof():  # servers end a connection that is not used for seconds
            await self.close()
            self._reader, self._writer = await asyncio.open_connection(LOOPBACK, self._port)
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:])
        }
        length = int(headers.get("content-length", 0))
        return Reply(int(head[0].split()[1]), await self._reader.readexactly(length))

    async def close(self) -> None:
        """Ends the connection."""
        self._writer.close()
        await self._writer.wait_closed()


def apart(work: Callable[..., T], *args: Any) -> T:
    """Does work in a fresh process of its own and returns its result."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *args).result()


def rate(call: Call, *, seconds: float, at_a_time: int) -> float:
    """Returns the answers per second to a call that is repeated, a fixed number at a time.

    Raises:
        RuntimeError: an answer was no success.
    """

    async def repeat(until: float, request: bytes) -> int:
        connection = await Connection.open(call.port)
        answers = 0
        try:
            while time.perf_counter() < until:
                reply = await connection.send(request)
                if reply.status not in SUCCESS:
                    raise RuntimeError(f"{call.path} answered {reply.status}: {reply.body[:200]!r}")
                answers += 1
        finally:
            await connection.close()
        return answers

    async def all_of_them() -> float:
        began = time.perf_counter()
        jobs = (repeat(began + seconds, call.encode()) for _ in range(at_a_time))
        return sum(await asyncio.gather(*jobs)) / (time.perf_counter() - began)

    return asyncio.run(all_of_them())


def rate_of(call: Call, seconds: float, at_a_time: int) -> float:
    """`rate`, for another process."""
    return rate(call, seconds=seconds, at_a_time=at_a_time)


def hold(
    calls: Sequence[Call],
    seconds: float,
    beats: Sequence[tuple[Call, ...]] = (),
    first_beat_s: float = 0.0,
    beat_s: float = 1.0,
) -> Counter[int]:
    """Keeps each of the calls open all the time, on a socket each, for some seconds.

    Beside them, from ``first_beat_s`` on, the calls of one beat after the other are made, one beat
    each ``beat_s`` seconds.

    Returns:
        How often each status was answered.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    answers: Counter[int] = Counter()

    async def ask(connection: Connection, call: Call) -> None:
        reply = await connection.ask(call)
        answers[reply.status] += 1
        if reply.status not in SUCCESS:
            await asyncio.sleep(1)

    async def repeat(call: Call, opening: asyncio.Semaphore) -> None:
        async with opening:
            connection = await Connection.open(call.port)
        try:
            while True:
                await ask(connection, call)
        finally:
            await connection.close()

    async def beat() -> None:
        began = time.perf_counter() + first_beat_s
        connection = await Connection.open(beats[0][0].port)
        try:
            for number, beaten in enumerate(itertools.cycle(beats)):
                await asyncio.sleep(began + number * beat_s - time.perf_counter())
                for call in beaten:
                    await ask(connection, call)
        finally:
            await connection.close()

    async def all_of_them() -> None:
        opening = asyncio.Semaphore(_OPEN_AT_A_TIME)
        tasks = [asyncio.create_task(repeat(call, opening)) for call in calls]
        if beats:
            tasks.append(asyncio.create_task(beat()))
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()  # raises why a connection was lost

    asyncio.run(all_of_them())
    return answers
