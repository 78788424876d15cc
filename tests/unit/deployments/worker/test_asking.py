"""How a hospital's worker asks the gateway: signed in, in few requests, undeterred by refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, WorkPool

from deployments import worker as worker_module
from deployments.child import RunOutcome
from deployments.warm import Ended
from tasks.hospital.exchange_errors import CredentialRefused

pytestmark = pytest.mark.anyio

ARun = Callable[..., FlowRun]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The events that Prefect's worker would send."""
    sent: list[str] = []

    def emit(event: str, **_: Any) -> str:
        sent.append(event)
        return event

    monkeypatch.setattr("prefect.workers.base.emit_event", emit)
    return sent


@pytest.fixture
def submit(hospital: Any, events: list[str]) -> Callable[[FlowRun], Any]:
    """Has the worker take a run that the gateway has offered, to its end."""

    async def whole(flow_run: FlowRun) -> None:
        hospital.worker._work_pool = WorkPool(name="hospital-north", type="hospital")
        hospital.worker._submitting_flow_run_ids.add(flow_run.id)
        async with anyio.create_task_group() as runs:
            hospital.worker._runs_task_group = runs
            await hospital.worker._submit_run(flow_run)
        assert hospital.worker._submitting_flow_run_ids == set()

    return whole


def answered(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://api/prefect/api/work_pools/x")
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(status))


def decided(status: str, *, state: str = "RUNNING", **details: Any) -> httpx.Response:
    """An answer of Prefect's to a proposed state."""
    now = {"type": state, "name": state.title()}
    return httpx.Response(200, json={"status": status, "details": details, "state": now})


@pytest.mark.parametrize("error", [answered(401), answered(403), CredentialRefused("suspended")])
@pytest.mark.parametrize("loop", ["get_and_submit_flow_runs", "sync_with_backend"])
async def test_a_worker_that_is_refused_goes_on_asking(
    hospital: Any, monkeypatch: pytest.MonkeyPatch, loop: str, error: Exception, caplog: Any
) -> None:
    async def refused(self: Any) -> None:
        raise error

    monkeypatch.setattr(worker_module, "_REFUSED_PAUSE_S", 0.0)
    monkeypatch.setattr(worker_module.BaseWorker, loop, refused)
    assert not await getattr(hospital.worker, loop)()
    assert "the coordinator refuses this hospital" in caplog.text


async def test_a_server_that_fails_is_left_to_the_base_s_patience(
    hospital: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(self: Any) -> None:
        raise answered(502)

    monkeypatch.setattr(worker_module.BaseWorker, "get_and_submit_flow_runs", failing)
    with pytest.raises(httpx.HTTPStatusError):
        await hospital.worker.get_and_submit_flow_runs()


async def test_a_run_costs_the_server_three_requests_all_signed_in_and_no_event(
    hospital: Any, submit: Any, a_flow_run: ARun, events: list[str]
) -> None:
    flow_run = a_flow_run()
    await submit(flow_run)
    path = f"/prefect/api/flow_runs/{flow_run.id}/set_state"
    assert [(request.method, request.url.path) for request in hospital.gateway.asked] == [
        ("POST", path),
        ("GET", f"/prefect/api/flows/{flow_run.flow_id}"),
        ("POST", path),
    ]
    assert hospital.gateway.proposed == [("Running", ""), ("Completed", "train 0.250 s")]
    signed_in = {request.headers["authorization"] for request in hospital.gateway.asked}
    assert signed_in == {"Bearer t1"}
    assert events == []


async def test_a_flow_that_ended_as_failed_has_said_why_and_is_no_crash(
    hospital: Any, submit: Any, a_flow_run: ARun
) -> None:
    outcome = RunOutcome(state="failed", message="Refusal: policy: not allowed")
    hospital.warm.ended = Ended(0, outcome.model_dump_json().encode())
    await submit(a_flow_run())
    assert hospital.gateway.proposed[-1] == ("Failed", "Refusal: policy: not allowed")
    assert hospital.crashes == []


@pytest.mark.parametrize("ended", [Ended(0, b"no outcome"), Ended(-9, b""), Ended(1, b"{}")])
async def test_a_run_without_an_outcome_is_told_as_crashed_to_the_exchange_and_to_prefect(
    hospital: Any, submit: Any, a_flow_run: ARun, ended: Ended
) -> None:
    hospital.warm.ended = ended
    flow_run = a_flow_run()
    await submit(flow_run)
    assert hospital.crashes == [(flow_run.id, ended.exit_code)]
    assert [name for name, _ in hospital.gateway.proposed] == ["Running", "Crashed"]


async def test_a_run_that_is_refused_here_is_told_as_crashed_and_forks_nothing(
    hospital: Any, submit: Any, a_flow_run: ARun, parameters: dict[str, Any]
) -> None:
    parameters["invitation"]["number"] = "1"
    await submit(a_flow_run())
    assert hospital.warm.requests == []
    assert [run.refusal.code for run in hospital.refused] == ["parameters"]
    running, (name, message) = hospital.gateway.proposed
    assert (running[0], name) == ("Running", "Crashed")
    assert message.endswith("RunRefused: number: Input should be a valid integer")


@pytest.mark.parametrize(
    "answer",
    [
        decided("ABORT", reason="the run has ended"),
        decided("REJECT", state="CANCELLED", reason="it was cancelled"),
        decided("REJECT", state="PENDING", reason="somebody else has it"),
        decided("REJECT", state="PAUSED", reason="the run is paused"),
        httpx.Response(403, json={"title": "Not allowed by the gateway"}),
        httpx.Response(404, json={"detail": "Flow run not found"}),
        httpx.Response(409, json={"detail": "conflict"}),
    ],
    ids=lambda answer: f"{answer.status_code}-{answer.text[:24]}",
)
async def test_a_run_that_the_server_does_not_give_is_left_alone(
    hospital: Any, submit: Any, a_flow_run: ARun, answer: httpx.Response, events: list[str]
) -> None:
    freed: list[UUID] = []
    hospital.worker._release_limit_slot = freed.append
    hospital.gateway.answers = [answer]
    flow_run = a_flow_run()
    await submit(flow_run)
    assert hospital.gateway.calls == ["POST set_state"]
    assert freed == [flow_run.id]
    assert (hospital.warm.requests, hospital.crashes, events) == ([], [], [])


@pytest.mark.parametrize("status", [403, 404])
async def test_an_outcome_that_is_not_taken_is_in_the_log_and_the_worker_goes_on(
    hospital: Any, submit: Any, a_flow_run: ARun, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    hospital.gateway.answers = [decided("ACCEPT"), httpx.Response(status, json={})]
    await submit(a_flow_run())
    assert "run north-round-1 is not Completed" in caplog.text
    assert hospital.crashes == []
    await submit(a_flow_run(id=uuid4()))
    assert hospital.gateway.proposed[-1][0] == "Completed"


async def test_a_worker_that_was_not_set_up_submits_nothing(hospital: Any, a_flow_run: Any) -> None:
    with pytest.raises(RuntimeError, match="has not been set up"):
        await hospital.worker._submit_run(a_flow_run())
