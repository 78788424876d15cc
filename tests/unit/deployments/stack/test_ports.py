"""Free ports."""

from __future__ import annotations

import socket

import pytest

from deployments.errors import OperatorError, PortTaken
from deployments.settings import LOOPBACK
from deployments.stack.ports import require_free


def test_free_ports_pass_and_stay_free() -> None:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    require_free({"FEDMED_API_PORT": (LOOPBACK, port)})
    require_free({"FEDMED_API_PORT": (LOOPBACK, port)})


def test_a_port_that_a_closed_connection_still_holds_is_free() -> None:
    """As after a restart: the server's end of a connection waits a minute in TIME_WAIT."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection((LOOPBACK, port)) as client:
            served, _ = listener.accept()
            served.close()  # the first to close is the one that waits
            assert client.recv(1) == b""
    require_free({"FEDMED_API_PORT": (LOOPBACK, port)})


def test_the_first_taken_port_is_named() -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} is taken; set FEDMED_API_PORT"):
            require_free(
                {"FEDMED_API_PORT": (LOOPBACK, port), "FEDMED_MLFLOW_PORT": (LOOPBACK, port)}
            )


def test_a_host_that_is_not_this_machine_s_is_named() -> None:
    # 192.0.2.0/24 is nobody's (RFC 5737).
    with pytest.raises(OperatorError, match=r"^FEDMED_API_HOST=192\.0\.2\.1 is no address of this"):
        require_free({"FEDMED_API_PORT": ("192.0.2.1", 8000)})
