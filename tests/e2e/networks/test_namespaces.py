"""Three hospitals, each in a network of its own with one way out: the coordinator's port.

They join and start by the command line, over TLS, as on machines of their own. It needs the right
to make network namespaces, and is skipped where there is none.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import psutil
import pytest

from deployments.demo_data import deal_out, demo_model
from deployments.operator import OperatorClient
from deployments.policy_files import write_unattended_policy
from deployments.settings import StackSettings
from deployments.stack import control
from deployments.stack.state import read_state
from fl.spec import TrainingRequest
from tasks.hospital.policy import policy_file

pytestmark = [pytest.mark.e2e, pytest.mark.long]

NAMES: Final = ("north", "east", "west")
FOREIGN: Final = ("FEDMED_", "PREFECT_", "MLFLOW_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Consortium:
    """A coordinator on the bridge, and hospitals that know nothing but its address and a code.

    Attributes:
        network: the bridge and the namespaces.
        settings: the coordinator's.
        operator: its operator.
        homes: each hospital's own ``FEDMED_HOME``.
        tables: each hospital's folder with its table.
        authority: the certificate of the authority that the hospitals are told to trust.
    """

    network: Any
    settings: StackSettings
    operator: OperatorClient
    homes: Mapping[str, Path]
    tables: Mapping[str, Path]
    authority: Path

    def command(self, hospital_id: str, *arguments: str) -> list[str]:
        cli = (sys.executable, "-m", "deployments.cli", "hospital", *arguments)
        return self.network.command(hospital_id, *cli)

    def environment(self, hospital_id: str) -> dict[str, str]:
        """A hospital's machine knows nothing of the coordinator's settings."""
        inherited = {n: v for n, v in os.environ.items() if not n.startswith(FOREIGN)}
        home = {"FEDMED_HOME": str(self.homes[hospital_id])}
        return {**inherited, **home, "FEDMED_PEERS": "first-use"}

    def run(self, hospital_id: str, *arguments: str) -> str:
        done = subprocess.run(
            self.command(hospital_id, *arguments),
            env=self.environment(hospital_id),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def logs(self) -> str:
        """The end of what each hospital has said."""
        found = ((home / "hospital.log").read_text()[-2000:] for home in self.homes.values())
        return "\n".join(("", *found))

    def join(self, hospital_id: str) -> None:
        code = self.operator.invite(hospital_id, hospital_id=hospital_id)["join_code"]
        options = ("--ca-file", str(self.authority), "--data-path", str(self.tables[hospital_id]))
        self.run(hospital_id, "join", self.settings.api_url, code, "--accept-all", *options)


@pytest.fixture(scope="module")
def consortium(network: Any, home: Any, authority_in: Any) -> Iterator[Consortium]:
    """The coordinator's stack, serving TLS on the bridge's address."""
    folder = home.path.parent / "tls"
    folder.mkdir()
    authority = authority_in(folder)
    certificate, key = authority.issue(network.address)
    url = f"https://{network.address}:{home.environment['FEDMED_API_PORT']}"
    serving = {
        "FEDMED_API_HOST": network.address,
        "FEDMED_PUBLIC_URL": url,
        "FEDMED_TLS_CERT": str(certificate),
        "FEDMED_TLS_KEY": str(key),
    }
    tables = deal_out(home.path.parent / "tables", hospitals=len(NAMES), seed=0)
    with ExitStack() as running:
        with patch.dict(os.environ, {**home.environment, **serving}, clear=True):
            settings = StackSettings()
            running.enter_context(
                control.attached(settings, hospitals={}, progress=lambda event: None)
            )
        operator = running.enter_context(OperatorClient.connect(settings))
        operator.add_model(demo_model())
        yield Consortium(
            network=network,
            settings=settings,
            operator=operator,
            homes={name: home.path.parent / name for name in NAMES},
            tables=dict(zip(NAMES, tables.values(), strict=True)),
            authority=authority.file,
        )


@pytest.fixture(scope="module")
def at_work(consortium: Consortium, eventually: Callable[..., Any]) -> Iterator[Consortium]:
    """All three have joined, found everything in order, and started."""
    with ThreadPoolExecutor() as threads:
        list(threads.map(consortium.join, NAMES))
    for name in NAMES:
        site = StackSettings(home=consortium.homes[name]).site(name, consortium.tables[name])
        policy_file(site).unlink()  # the first one asks a person
        write_unattended_policy(site)
    # Joining has checked the same; now it sees all the others.
    assert "fail" not in consortium.run(NAMES[0], "check")
    with ExitStack() as running:
        processes = [running.enter_context(started(consortium, name)) for name in NAMES]
        yield consortium
        assert [process.poll() for process in processes] == [None] * len(NAMES)


@contextmanager
def started(consortium: Consortium, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """`fedmed hospital start` until the end of the block; then its whole process group."""
    log = consortium.homes[name] / "hospital.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            consortium.command(name, "start"),
            env=consortium.environment(name),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_training_over_tls_completes_with_all_three(
    at_work: Consortium, eventually: Callable[..., Any]
) -> None:
    # Time enough for the first round to wait until all three have started.
    asked = TrainingRequest(model=demo_model().name, rounds=2, round_deadline_s=240)
    started = at_work.operator.start_training(asked)
    over = ("completed", "failed")

    def look() -> Any:
        found = at_work.operator.training(started["training_id"])
        return found if found["state"] in over else None

    training = eventually(look, deadline_s=120)
    assert training["state"] == "completed", training["reason"] + at_work.logs()
    states = [{h["hospital_id"]: h["state"] for h in r["hospitals"]} for r in training["rounds"]]
    assert states == [dict.fromkeys(NAMES, "revealed")] * 3


@pytest.mark.parametrize("name", NAMES)
def test_a_hospital_reaches_the_api_s_port_and_no_other(at_work: Consortium, name: str) -> None:
    network, settings = at_work.network, at_work.settings
    ports = listening(settings.home)
    assert {settings.api_port, settings.prefect_port, settings.mlflow_port} <= ports
    reached = {port for port in ports | {5432} if network.reaches(name, network.address, port)}
    assert reached == {settings.api_port}
    assert not [port for port in ports if network.reaches(name, "127.0.0.1", port)]


def listening(home: Path) -> set[int]:
    """The ports on which the coordinator's processes listen, on whatever address."""
    state = read_state(home)
    assert state is not None
    supervisor = psutil.Process(state.pid)
    family = [supervisor, *supervisor.children(recursive=True)]
    return {
        connection.laddr.port
        for process in family
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_hospital_does_not_reach_another(network: Any, name: str) -> None:
    others = [other for other in NAMES if other != name]
    for other in others:
        with network.listener(other) as port:
            # The listener is there: from the coordinator and at home it is reached.
            assert network.reaches(other, network.addresses[other], port)
            assert network.opens(network.addresses[other], port)
            assert not network.reaches(name, network.addresses[other], port)
