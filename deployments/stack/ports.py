"""Checks that the stack's ports are free before anything starts."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from deployments.errors import PortTaken
from deployments.settings import LOOPBACK


def require_free(ports: Mapping[str, int]) -> None:
    """Raises PortTaken for the first port in use, or for two settings with the same port."""
    seen: set[int] = set()
    for setting, port in ports.items():
        if port in seen:
            raise PortTaken(setting, port)
        seen.add(port)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As the servers do: a port in TIME_WAIT after a restart is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                raise PortTaken(setting, port) from None
