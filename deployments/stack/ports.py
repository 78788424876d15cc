"""Checks that the stack's ports are free before anything starts."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

from deployments.errors import OperatorError, PortTaken


def require_free(listens: Mapping[str, tuple[str, int]]) -> None:
    """Checks each setting's host and port.

    Raises:
        PortTaken: the first port in use, or the second setting with the same port.
        OperatorError: a host that is no address of this machine.
    """
    seen: set[int] = set()
    for setting, (host, port) in listens.items():
        if port in seen:
            raise PortTaken(setting, port)
        seen.add(port)
        _probe(setting, host, port)


def _probe(setting: str, host: str, port: int) -> None:
    host_setting = setting.replace("_PORT", "_HOST")
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise OperatorError(f"{host_setting}={host} is no address ({error.strerror})") from None
    with socket.socket(family, kind) as probe:
        # As the servers do: a port in TIME_WAIT after a restart is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise OperatorError(
                    f"{host_setting}={host} is no address of this machine"
                ) from None
            raise PortTaken(setting, port) from None
