"""A confined child and one that is not, each in an interpreter of its own: a fork needs that."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deployments.stack.services import ONE_THREAD

PLANTED = {
    "AWS_SECRET_ACCESS_KEY": "planted-1",
    "PREFECT_API_AUTH_STRING": "planted-2",
    "PREFECT_API_KEY": "planted-3",
    "FEDMED_DATABASE_URL": "postgresql://u:planted-4@db/fedmed",
}

PRELUDE = """
import json, os, sys
from functools import partial
from pathlib import Path
import anyio
from deployments.confine import ChildLimits, Places, confinement_report, enforce, limit_child
from deployments.hospital import _confine
from deployments.warm import WarmProcess

given = json.loads(sys.argv[1])
root = Path(given["root"])
places = Places(
    data_path=root / "data",
    home=root / "north",
    temporary=root / "north" / "tmp",
    records=root / "north" / "records",
)

def children(entry, requests, *, confined):
    "Runs a child for each request, one after the other; returns their exit codes."
    report = confinement_report(places) if confined else None
    warm = WarmProcess.fork(entry, prepare=partial(_confine, report, places) if confined else None)
    codes = []
    async def work():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(warm.listen)
            for request in requests:
                codes.append((await warm.wait(await warm.start(request))).exit_code)
            tasks.cancel_scope.cancel()
    anyio.run(work)
    return codes
"""


@dataclass(frozen=True)
class Ground:
    """What lies around a hospital: its own files, others', and a server that listens."""

    root: Path
    port: int
    udp_port: int
    shared: Path


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    root = tmp_path_factory.mktemp("hospitals")
    for folder in ("data", "north/tmp", "north/records", "north/keys", "south/keys", "elsewhere"):
        (root / folder).mkdir(parents=True)
    (root / "data" / "table.csv").write_text("age,label\n70,1\n")
    (root / "north" / "policy.yaml").write_text("approval: each-training")
    (root / "north" / "keys" / "signing.key").write_text("north's key")
    (root / "south" / "keys" / "signing.key").write_text("south's key")
    (root / "elsewhere" / "notes.txt").write_text("of someone else")
    shared = Path(f"/dev/shm/fedmed-test-{os.getpid()}")  # noqa: S108 - what the test is about
    shared.write_text("of another process")
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(("127.0.0.1", 0))
            yield Ground(root, server.getsockname()[1], datagrams.getsockname()[1], shared)
    shared.unlink()


@pytest.fixture(scope="session")
def run_children(ground: Ground) -> Callable[..., Any]:
    """Runs a program that prints one JSON line, beside a hospital's files; returns its value."""

    def run(program: str, **given: Any) -> Any:
        arguments = {
            "root": str(ground.root),
            "port": ground.port,
            "udp_port": ground.udp_port,
            "shared": str(ground.shared),
            "outside": os.getpid(),
            **given,
        }
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + program, json.dumps(arguments)],
            env={**os.environ, **PLANTED, **ONE_THREAD},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
