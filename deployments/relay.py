"""The one way out of a confined child: a Unix socket whose bytes the worker passes on.

    async with anyio.create_task_group() as tasks:
        await tasks.start(serve, Route(path=socket, host="fedmed.example.org", port=443))

Wherever a child wants to go, the relay goes to its one host and port. It reads nothing of what it
passes: TLS is spoken between the child and the coordinator.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
import anyio.abc

MOST_CONNECTIONS: Final = 32
"""Connections at a time; a further one waits until one of these has ended."""

_CHUNK: Final = 1 << 18
_LONGEST_PATH: Final = 107  # bytes in sockaddr_un, less the final zero
_PORTS: Final = {"http": 80, "https": 443}

_log = logging.getLogger("fedmed.hospital")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A socket in the file system and where its bytes go."""

    path: Path
    host: str
    port: int


def routes_of(folder: Path, urls: Mapping[str, str]) -> dict[str, Route]:
    """Returns the route of each named URL; URLs of one host and port share a socket.

    Makes the folder, which only its owner can enter.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    place = reachable(folder)
    routes: dict[str, Route] = {}
    for name, url in urls.items():
        host, port = origin(url)
        path = place / f"{name}.sock"
        for known in routes.values():
            if (known.host, known.port) == (host, port):
                path = known.path
        routes[name] = Route(path=path, host=host, port=port)
    return routes


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
            try:
                async with await anyio.connect_tcp(route.host, route.port) as far:
                    async with anyio.create_task_group() as both:
                        both.start_soon(_copy, near, far)
                        both.start_soon(_copy, far, near)
            except* OSError as errors:
                # The child sees a lost connection, and tries again.
                named = "; ".join(str(error) for error in errors.exceptions)
                _log.warning("no connection to %s:%s: %s", route.host, route.port, named)
            except* (anyio.BrokenResourceError, anyio.ClosedResourceError):
                _log.debug("a connection to %s:%s was lost", route.host, route.port)

    async with await anyio.create_unix_listener(route.path, mode=0o600, backlog=most) as listener:
        task_status.started()
        await listener.serve(pass_on)


async def _copy(source: anyio.abc.SocketStream, sink: anyio.abc.SocketStream) -> None:
    try:
        while True:
            await sink.send(await source.receive(_CHUNK))
    except anyio.EndOfStream:
        await sink.send_eof()
