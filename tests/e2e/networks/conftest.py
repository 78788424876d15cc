"""A network of its own for each hospital, with one way out: to the coordinator's address."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import pytest

NAMES: Final = ("north", "east", "west")
IP: Final = shutil.which("ip")
LISTENER: Final = """
import socket
with socket.create_server(("", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        listener.accept()[0].close()
"""
PROBE: Final = """
import socket, sys
with socket.socket() as probe:
    probe.settimeout(1.0)
    try:
        probe.connect((sys.argv[1], int(sys.argv[2])))
    except OSError as error:
        sys.exit(type(error).__name__)
"""


def opens(address: str, port: int, *through: str) -> bool:
    """Whether a TCP connection opens, from here or by a command that runs elsewhere."""
    probe = [*through, sys.executable, "-c", PROBE, address, str(port)]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0


def ip(*arguments: str) -> str:
    command = [IP or "ip", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge with the coordinator's address on it, and a namespace for each hospital.

    Attributes:
        address: the coordinator's.
        namespaces: each hospital's namespace.
        addresses: each hospital's own address.
    """

    address: str
    namespaces: Mapping[str, str]
    addresses: Mapping[str, str]

    def command(self, hospital_id: str, *arguments: str) -> list[str]:
        """Returns a command that runs in a hospital's network."""
        return ["ip", "netns", "exec", self.namespaces[hospital_id], *arguments]

    def opens(self, address: str, port: int) -> bool:
        """Whether a TCP connection opens from the coordinator's machine."""
        return opens(address, port)

    def reaches(self, hospital_id: str, address: str, port: int) -> bool:
        return opens(address, port, *self.command(hospital_id))

    @contextmanager
    def listener(self, hospital_id: str) -> Iterator[int]:
        """A port of a hospital's on which something listens."""
        command = self.command(hospital_id, sys.executable, "-c", LISTENER)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield int(process.stdout.readline())
            finally:
                process.kill()


def end_all_in(namespace: str) -> None:
    """Kills what still runs in a namespace."""
    for pid in map(int, ip("netns", "pids", namespace).split()):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def a_network() -> Iterator[Network]:
    """Makes the namespaces, without a route to anywhere else, and takes them away again."""
    tag = secrets.token_hex(3)
    subnet = f"10.{100 + secrets.randbelow(100)}.{secrets.randbelow(250)}"
    bridge = f"fm{tag}"
    with ExitStack() as made:
        ip("link", "add", bridge, "type", "bridge")
        made.callback(ip, "link", "delete", bridge)
        ip("address", "add", f"{subnet}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        namespaces, addresses = {}, {}
        for number, name in enumerate(NAMES, start=2):
            namespace, outside = f"fm{tag}-{name}", f"fm{tag}v{number}"
            namespaces[name], addresses[name] = namespace, f"{subnet}.{number}"
            ip("netns", "add", namespace)
            made.callback(ip, "netns", "delete", namespace)
            made.callback(end_all_in, namespace)
            inside = ("-n", namespace)
            ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            ip("link", "set", outside, "master", bridge, "up")
            # A port of the bridge that reaches the coordinator and no other hospital.
            ip("link", "set", "dev", outside, "type", "bridge_slave", "isolated", "on")
            ip(*inside, "address", "add", f"{addresses[name]}/24", "dev", "eth0")
            ip(*inside, "link", "set", "eth0", "up")
            ip(*inside, "link", "set", "lo", "up")
        yield Network(f"{subnet}.1", namespaces, addresses)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if os.geteuid() != 0 or IP is None:
        pytest.skip("needs root and iproute2 to make network namespaces")
    with ExitStack() as running:
        try:
            made = running.enter_context(a_network())
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine makes no network namespaces: {error.stderr.strip()}")
        yield made
