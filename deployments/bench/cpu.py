"""CPU seconds of one client and of the server, in a round that runs in one process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """What a round costs.

    Attributes:
        client_s: CPU seconds of one client.
        server_s: CPU seconds of the server.
        upload_bytes: bytes of one client's masked vector, as it is sent.
    """

    client_s: float
    server_s: float
    upload_bytes: int


class CpuClock:
    """Books the CPU time of this process, all its threads included."""

    def __init__(self) -> None:
        self._client_s = 0.0
        self._server_s = 0.0

    @contextmanager
    def client(self, sharing: int = 1) -> Iterator[None]:
        """Books the time of a step that so many clients take alike, for one of them."""
        started = time.process_time()
        yield
        self._client_s += (time.process_time() - started) / sharing

    @contextmanager
    def server(self) -> Iterator[None]:
        """Books the time of a step of the server."""
        started = time.process_time()
        yield
        self._server_s += time.process_time() - started

    def cost(self, *, upload_bytes: int) -> Cost:
        """Returns what was booked."""
        return Cost(self._client_s, self._server_s, upload_bytes)
