"""The relay: bytes pass unread to one host and port, through a socket that only its owner opens."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.abc
import pytest
from anyio.abc import SocketAttribute

from deployments.relay import Route, origin, route_of, serve

pytestmark = pytest.mark.anyio

Handle = Callable[[anyio.abc.SocketStream], object]


async def echo(stream: anyio.abc.SocketStream) -> None:
    async with stream:
        async for chunk in stream:
            await stream.send(chunk)


async def sink(stream: anyio.abc.SocketStream) -> None:
    """Counts what comes until the other side has ended, and answers the number."""
    async with stream:
        count = 0
        async for chunk in stream:
            count += len(chunk)
        await stream.send(str(count).encode())


@pytest.fixture
async def tasks() -> AsyncIterator[anyio.abc.TaskGroup]:
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


async def _listen(
    handle: Handle, *, task_status: anyio.abc.TaskStatus[int] = anyio.TASK_STATUS_IGNORED
) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        task_status.started(listener.extra_attributes[SocketAttribute.local_port]())
        await listener.serve(handle)


async def route_to(tasks: anyio.abc.TaskGroup, tmp_path: Path, handle: Handle) -> Route:
    url = f"http://127.0.0.1:{await tasks.start(_listen, handle)}"
    return route_of(tmp_path / "relay", url)


async def test_bytes_pass_both_ways_and_so_does_the_end(
    tasks: anyio.abc.TaskGroup, tmp_path: Path
) -> None:
    route = await route_to(tasks, tmp_path, sink)
    await tasks.start(serve, route)
    async with await anyio.connect_unix(route.path) as stream:
        for _ in range(64):
            await stream.send(bytes(100_000))
        await stream.send_eof()
        assert await stream.receive() == b"6400000"


async def test_socket_and_folder_are_the_owner_s(
    tasks: anyio.abc.TaskGroup, tmp_path: Path
) -> None:
    route = await route_to(tasks, tmp_path, echo)
    await tasks.start(serve, route)
    assert stat.S_IMODE(route.path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "relay").stat().st_mode) == 0o700


async def test_a_socket_that_a_killed_worker_left_is_replaced(
    tasks: anyio.abc.TaskGroup, tmp_path: Path
) -> None:
    route = await route_to(tasks, tmp_path, echo)
    async with await anyio.create_unix_listener(route.path):
        pass
    await tasks.start(serve, route)
    async with await anyio.connect_unix(route.path) as stream:
        await stream.send(b"again")
        assert await stream.receive() == b"again"


async def test_without_the_coordinator_a_connection_ends_and_the_relay_goes_on(
    tasks: anyio.abc.TaskGroup, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    route = Route(path=tmp_path / "r.sock", host="127.0.0.1", port=1)
    await tasks.start(serve, route)
    for _ in range(2):
        async with await anyio.connect_unix(route.path) as stream:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
    assert caplog.text.count("connection to 127.0.0.1:1") == 2


async def test_connections_beyond_the_most_wait_for_one_to_end(
    tasks: anyio.abc.TaskGroup, tmp_path: Path
) -> None:
    route = await route_to(tasks, tmp_path, echo)

    async def two(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await serve(route, most=1, task_status=task_status)

    await tasks.start(two)
    async with await anyio.connect_unix(route.path) as first:
        await first.send(b"1")
        assert await first.receive() == b"1"
        async with await anyio.connect_unix(route.path) as second:
            await second.send(b"2")
            with anyio.move_on_after(0.05) as waited:
                await second.receive()
            assert waited.cancelled_caught
            await first.aclose()
            assert await second.receive() == b"2"


async def test_a_folder_with_a_long_name_is_reached_all_the_same(
    tasks: anyio.abc.TaskGroup, tmp_path: Path
) -> None:
    route = await route_to(tasks, tmp_path / ("long" * 30), echo)
    await tasks.start(serve, route)
    async with await anyio.connect_unix(route.path) as stream:
        await stream.send(b"there")
        assert await stream.receive() == b"there"


def test_there_is_one_socket_and_it_leads_to_the_coordinator_s_host_and_port(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "relay"
    path = folder / "coordinator.sock"
    route = Route(path=path, host="fedmed.example.org", port=443)
    assert route_of(folder, "https://fedmed.example.org") == route
    assert route_of(folder, "https://fedmed.example.org:443/prefect/api") == route
    local = Route(path=path, host="127.0.0.1", port=8000)
    assert route_of(folder, "http://127.0.0.1:8000") == local
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "url", ["fedmed.example.org", "ftp://host", "https://", "", "file:///etc/passwd"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no address of a coordinator"):
        origin(url)


def test_the_port_of_an_address_is_its_scheme_s_unless_given() -> None:
    assert origin("https://a.example") == ("a.example", 443)
    assert origin("http://[::1]:8000/api") == ("::1", 8000)
