"""The one way out of a confined child: a Unix socket whose bytes the worker passes on.

    async with anyio.create_task_group() as tasks:
        await tasks.start(serve, Route(path=socket, host="fedmed.example.org", port=443))

Wherever a child wants to go, the relay goes to its one host and port. It reads nothing of what it
passes: TLS is spoken between the child and the coordinator.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
import anyio.abc
from anyio.abc import SocketAttribute

MOST_CONNECTIONS: Final = 32
"""Connections at a time; a further one waits until one of these has ended."""

_CONNECT_S: Final = 10.0
_SEND_BUFFER_BYTES: Final = 1 << 22
_PIPE_BYTES: Final = 1 << 20  # what an ordinary user may have
_LONGEST_PATH: Final = 107  # bytes in sockaddr_un, less the final zero
_PORTS: Final = {"http": 80, "https": 443}

_log = logging.getLogger("fedmed.hospital")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A socket in the file system and where its bytes go."""

    path: Path
    host: str
    port: int


def route_of(folder: Path, url: str) -> Route:
    """Returns the route to the host of a URL; makes the folder, which only its owner can enter."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    host, port = origin(url)
    return Route(path=reachable(folder) / "coordinator.sock", host=host, port=port)


def origin(url: str) -> tuple[str, int]:
    """Returns host and port of an HTTP address.

    Raises:
        ValueError: it names no host, or is of another scheme.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or parts.hostname is None:
        raise ValueError(f"{url!r} is no address of a coordinator; give http(s)://HOST[:PORT]")
    return parts.hostname, parts.port or _PORTS[parts.scheme]


def reachable(folder: Path) -> Path:
    """Returns a name of a folder that is short enough for sockets in it.

    A long one is held open, here and in every process forked from here, and named by that.
    """
    if len(os.fsencode(folder / "coordinator.sock")) <= _LONGEST_PATH:
        return folder
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    return Path(f"/proc/self/fd/{descriptor}")


async def serve(
    route: Route,
    *,
    most: int = MOST_CONNECTIONS,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Listens on the route's socket, mode 0600, until it is cancelled."""
    places = anyio.CapacityLimiter(most)

    async def pass_on(near: anyio.abc.SocketStream) -> None:
        async with near, places:
            raw: socket.socket = near.extra(SocketAttribute.raw_socket)  # noqa: S610 - no Django
            # As much as the system gives: a full buffer costs two switches of processes.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            try:
                with await _connect(route.host, route.port) as far:
                    async with anyio.create_task_group() as both:
                        both.start_soon(_copy, raw, far)
                        both.start_soon(_copy, far, raw)
            except* OSError as errors:
                # The child sees a lost connection, and tries again.
                named = "; ".join(str(error) for error in errors.exceptions)
                _log.warning("connection to %s:%s: %s", route.host, route.port, named)

    listening = await anyio.create_unix_listener(route.path, mode=0o600, backlog=most)
    async with listening as listener:
        task_status.started()
        await listener.serve(pass_on)


async def _connect(host: str, port: int) -> socket.socket:
    """Returns a connection to the first address of the host that takes one.

    Raises:
        OSError: none does.
    """
    failure = OSError(f"{host} has no address")
    for family, _, _, _, address in await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        far = socket.socket(family, socket.SOCK_STREAM)
        try:
            far.setblocking(False)
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if far.connect_ex(address) not in (0, errno.EINPROGRESS):
                raise OSError(f"no connection to {address[0]}")
            with anyio.fail_after(_CONNECT_S):
                await anyio.wait_writable(far)
            if error := far.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, os.strerror(error))
        except OSError as error:  # a timeout is one too
            far.close()
            failure = error
        except BaseException:
            far.close()
            raise
        else:
            return far
    raise failure


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Moves bytes from one socket to the other, in the kernel, until the source has ended."""
    out, into = os.pipe()
    try:
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        while moved := await _splice(source.fileno(), into, anyio.wait_readable, source):
            while moved:
                moved -= await _splice(out, sink.fileno(), anyio.wait_writable, sink, moved)
        sink.shutdown(socket.SHUT_WR)
    finally:
        os.close(out)
        os.close(into)


async def _splice(
    source: int,
    sink: int,
    wait: Callable[[socket.socket], Awaitable[None]],
    awaited: socket.socket,
    count: int = _PIPE_BYTES,
) -> int:
    while True:
        try:
            return os.splice(source, sink, count, flags=os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE)
        except BlockingIOError:
            await wait(awaited)
