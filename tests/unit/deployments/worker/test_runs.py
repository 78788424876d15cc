"""What a hospital's worker runs: its own allow-list decides, the server only says when."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import Flow, FlowRun

from deployments import worker as worker_module
from deployments.admission import ALLOWED_FLOWS
from deployments.warm import Ended
from deployments.worker import (
    HospitalJobConfiguration,
    HospitalVariables,
    HospitalWorker,
)
from fl.invitation import RoundInvitation
from flows.hospital_round import hospital_round
from tasks.hospital.tokens import IssuedToken

ARun = Callable[..., FlowRun]


def configured(name: str | None) -> HospitalJobConfiguration:
    return HospitalJobConfiguration(name=name)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name", ["federated-round", "hospital-round ", "Hospital-Round", "", None, "os:system"]
)
async def test_a_flow_that_is_not_allowed_forks_nothing(
    hospital: Any, name: str | None, a_flow_run: ARun
) -> None:
    with pytest.raises(PermissionError, match="is not allowed at this hospital"):
        await hospital.worker.run(a_flow_run(), configured(name))
    assert hospital.warm.requests == []
    assert hospital.crashes == []
    assert [run.refusal.code for run in hospital.refused] == ["flow"]


@pytest.mark.anyio
async def test_parameters_that_break_a_rule_fork_nothing_and_are_reported(
    hospital: Any, a_flow_run: ARun, parameters: dict[str, Any]
) -> None:
    parameters["invitation"]["deadline_s"] = 1e9
    with pytest.raises(PermissionError, match="deadline_s: Input should be less than or equal"):
        await hospital.worker.run(a_flow_run(), configured("hospital-round"))
    assert hospital.warm.requests == []
    (refused,) = hospital.refused
    assert str(refused.round_id) == parameters["invitation"]["round_id"]


@pytest.mark.anyio
async def test_of_a_run_its_validated_invitation_alone_reaches_the_child(
    hospital: Any, a_flow_run: ARun, parameters: dict[str, Any]
) -> None:
    template = {"__prefect_kind": "jinja", "template": "{{ 7 * 7 }}"}
    run = a_flow_run(context=template, tags=["evil"], labels={"evil": "1"}, name="evil")
    await hospital.worker.run(run, configured("hospital-round"))
    (request,) = hospital.warm.requests
    ours = {"target", "invitation", "token", "memory_mb", "cpu_s"}
    assert request.keys() == {*hospital.environment, *ours}
    sent = RoundInvitation.model_validate_json(request["invitation"])
    assert sent.model_dump(mode="json") == parameters["invitation"]
    for foreign in ("evil", "jinja", str(run.id), "/etc/passwd"):
        assert not any(foreign in value for value in request.values())


@pytest.mark.anyio
async def test_an_allowed_flow_runs_the_installed_one_in_the_site_s_environment(
    hospital: Any, a_flow_run: ARun
) -> None:
    result = await hospital.worker.run(a_flow_run(), configured("hospital-round"))
    (request,) = hospital.warm.requests
    assert request["target"] == "flows.hospital_round:hospital_round"
    assert {key: request[key] for key in hospital.environment} == hospital.environment
    assert (result.identifier, result.status_code) == ("4711", 0)
    assert hospital.crashes == []


@pytest.mark.anyio
async def test_a_child_is_given_the_site_s_limits_and_the_worker_s_token(
    hospital: Any, a_flow_run: ARun
) -> None:
    await hospital.worker.run(a_flow_run(), configured("hospital-round"))
    hospital.auth.token = None  # not signed in yet
    await hospital.worker.run(a_flow_run(), configured("hospital-round"))
    signed_in, not_yet = hospital.warm.requests
    assert IssuedToken.model_validate_json(signed_in["token"]).value == "t1"
    assert not_yet["token"] == ""
    assert signed_in["memory_mb"] == "16384"
    assert 0 < int(signed_in["cpu_s"]) < 86_400  # its deadline leaves less


@pytest.mark.anyio
async def test_the_base_learns_the_child_s_process_as_soon_as_it_is_there(
    hospital: Any, a_flow_run: ARun
) -> None:
    started: list[int] = []
    status: Any = SimpleNamespace(started=started.append)
    await hospital.worker.run(a_flow_run(), configured("hospital-round"), status)
    assert started == [4711]


@pytest.mark.anyio
@pytest.mark.parametrize("exit_code", [1, 7, 137, -9])
async def test_a_crash_is_reported_with_its_exit_code(
    hospital: Any, exit_code: int, a_flow_run: ARun
) -> None:
    completed = hospital.warm.ended.answer
    hospital.warm.ended = Ended(exit_code, completed)  # an answer does not undo how it ended
    flow_run = a_flow_run()
    result = await hospital.worker.run(flow_run, configured("hospital-round"))
    assert hospital.crashes == [(flow_run.id, exit_code)]
    assert result.status_code == exit_code
    assert hospital.gateway.proposed == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff\x00",
        b"{}",
        b'{"state":"cancelled","message":""}',
        b'{"state":"completed","message":"","data":"gASVCw=="}',
        b'{"state":"completed","message":"%s"}' % (b"x" * 2001),
        b'{"state":"completed","message":"%s' % (b"x" * 16_384),
    ],
)
async def test_a_child_that_leaves_no_outcome_is_reported_as_a_crash(
    hospital: Any, answer: bytes, a_flow_run: ARun, caplog: pytest.LogCaptureFixture
) -> None:
    hospital.warm.ended = Ended(0, answer)
    flow_run = a_flow_run()
    result = await hospital.worker.run(flow_run, configured("hospital-round"))
    assert hospital.crashes == [(flow_run.id, 0)]
    assert result.status_code == 1  # upon which the base proposes Crashed
    assert hospital.gateway.proposed == []
    assert "left no outcome that can be read" in caplog.text


@pytest.mark.anyio
async def test_a_run_that_is_cancelled_is_killed_and_reported(
    hospital: Any, monkeypatch: pytest.MonkeyPatch, a_flow_run: ARun
) -> None:
    monkeypatch.setattr(worker_module, "_CANCEL_POLL_S", 0.001)
    hospital.gateway.state = "CANCELLING"
    hospital.warm.runs_until_killed = True
    await hospital.worker.run(a_flow_run(), configured("hospital-round"))
    assert hospital.warm.killed == [4711]
    assert [name for name, _ in hospital.gateway.proposed] == ["Cancelled"]
    assert [exit_code for _, exit_code in hospital.crashes] == [-9]


@pytest.mark.anyio
async def test_of_all_that_a_server_configures_the_flow_s_name_alone_is_read(
    a_flow_run: ARun, hostile: dict[str, Any]
) -> None:
    flow_run = a_flow_run()
    asked: list[UUID] = []

    async def read_flow(flow_id: UUID) -> Flow:
        asked.append(flow_id)
        return Flow(id=flow_id, name="hospital-round", labels={})

    client: Any = SimpleNamespace(read_flow=read_flow)
    template = {"job_configuration": hostile, "variables": {"properties": {}}}
    pool: Any = SimpleNamespace(base_job_template=template)
    deployment: Any = SimpleNamespace(
        job_variables=hostile, entrypoint="/srv/evil.py:flow", pull_steps=[{"run": hostile}]
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


def test_the_worker_works_on_its_own_pool_alone(hospital: Any) -> None:
    assert hospital.worker._work_pool_name == "hospital-north"
    assert hospital.worker.name.startswith("north-")


@pytest.mark.parametrize(
    "missing",
    ["hospital_id", "warm", "admission", "auth", "report_crash", "report_refusal"],
)
def test_it_is_not_started_by_prefect_s_own_command(given: dict[str, Any], missing: str) -> None:
    HospitalWorker("hospital-north", **given)
    with pytest.raises(TypeError, match="fedmed hospital start"):
        HospitalWorker("hospital-north", **{**given, missing: None})
