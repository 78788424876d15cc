"""The gateway's benchmark reads answers whole and computes what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from deployments.bench.gateway import Measured, figures
from deployments.bench.gateway_client import Call, Connection, hold, rate
from deployments.bench.gateway_idle import Idle
from deployments.bench.gateway_stack import Usage


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """Answers every request with its path and body."""
    handlers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                (length,) = (
                    int(line.split(":")[1])
                    for line in head.split("\r\n")
                    if line.lower().startswith("content-length")
                )
                body = head.split()[1].encode() + b" " + await reader.readexactly(length)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        except asyncio.IncompleteReadError:
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*handlers)


def test_a_connection_is_used_again_and_reads_each_answer_whole() -> None:
    async def ask() -> list[bytes]:
        async with echo() as port:
            connection = await Connection.open(port)
            calls = [Call(port, "POST", path, body="x" * 100_000) for path in ("/one", "/two")]
            bodies = [(await connection.ask(call)).body for call in calls]
            await connection.close()
            return bodies

    one, two = asyncio.run(ask())
    assert one == b'/one "' + b"x" * 100_000 + b'"'
    assert two.startswith(b"/two ")


@pytest.mark.parametrize(
    "work", [lambda call: rate(call, seconds=1, at_a_time=2), lambda call: hold([call], 1)]
)
def test_a_lost_server_is_an_error_and_no_figure(work: Callable[[Call], object]) -> None:
    async def free() -> int:
        async with echo() as port:
            return port

    call = Call(asyncio.run(free()), "GET", "/")
    with pytest.raises(ConnectionRefusedError):
        work(call)


def test_the_gateway_s_part_is_the_difference_of_the_medians_by_call() -> None:
    measured = Measured(
        straight_s={"POST set_state, twice": [0.010, 0.012, 0.014]},
        gateway_s={"POST set_state, twice": [0.014, 0.016, 0.030]},
        in_hands_s=[0.1, 0.2],
        running_s=[0.2, 0.4],
        idle=Idle(used={"api, 1,000 wait": (Usage(0, 1, 0, 0), Usage(100, 6, 200, 150))}),
    )
    found = {entry.figure: entry for entry in figures(measured)}
    added = found["POST set_state, twice: added by a call, median"]
    assert (added.value, added.is_met) == (2.0, True)
    assert found["create_flow_run → in the waiting client's hands, median"].value == 150
    cpu = next(entry for name, entry in found.items() if "CPU of a core" in name)
    assert (cpu.value, cpu.is_met) == (5.0, True)
