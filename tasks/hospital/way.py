"""The way from a hospital to its coordinator: one address, whom to trust there, what leads there.

with settings.way.client(auth=site.auth, timeout=timeout) as client:
    client.get("/exchange/roster")
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from tasks.hospital.tls import Trust

# Of a Unix socket, whose own is small: an upload of 44 MB takes a tenth of the time.
_LARGE_SEND_BUFFER: Final = (socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)


@dataclass(frozen=True, slots=True)
class Way:
    """The way to the coordinator.

    Attributes:
        api_url: its address.
        trust: whom to take for it.
        uds: a Unix socket that leads there, for a process that has no network. TLS is spoken
            through it, with the host of ``api_url``.
    """

    api_url: str
    trust: Trust = Trust()  # noqa: RUF009 - a frozen value
    uds: Path | None = None

    def client(self, *, timeout: httpx.Timeout, auth: httpx.Auth | None = None) -> httpx.Client:
        """Opens a client.

        Raises:
            AddressRefused: nothing may be sent to that address.
        """
        return httpx.Client(
            base_url=self.api_url,
            auth=auth,
            timeout=timeout,
            trust_env=False,
            transport=httpx.HTTPTransport(
                verify=self.trust.context(self.api_url),
                trust_env=False,
                uds=None if self.uds is None else str(self.uds),
                socket_options=None if self.uds is None else [_LARGE_SEND_BUFFER],
            ),
        )
