"""What a hospital that means harm may put into the calls it has."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import pickle
from typing import Any
from uuid import uuid4

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

NOW = "2026-11-25T12:00:00Z"


class Exploit:
    def __reduce__(self) -> Any:
        return os.system, ("id",)


PICKLED = {
    "type": "unpersisted",
    "blob": base64.b64encode(pickle.dumps(Exploit())).decode(),
    "serializer": {"type": "pickle"},
    "storage_key": "/etc/passwd",
}


def line(run_id: str, **changes: Any) -> dict[str, Any]:
    found = {"flow_run_id": run_id, "name": "x", "level": 20, "timestamp": NOW, "message": "m"}
    return {**found, **changes}


async def running(hospital: Any) -> str:
    run_id: str = await hospital.new_run()
    for state in ("PENDING", "RUNNING"):
        assert (await hospital.go(run_id, state)).json()["status"] == "ACCEPT"
    return run_id


async def test_a_result_that_would_be_unpickled_never_arrives(north: Any) -> None:
    run_id = await running(north)
    done = await north.go(
        run_id,
        "COMPLETED",
        name="Completed",
        data=PICKLED,
        state_details={
            "flow_run_id": str(uuid4()),
            "transition_id": str(uuid4()),
            "child_flow_run_id": str(uuid4()),
            "cache_key": "k",
            "run_input_keyset": {"a": "b"},
            "deployment_concurrency_lease_id": str(uuid4()),
        },
    )
    assert done.status_code == 201
    state = (await north.upstream_run(run_id))["state"]
    assert (state["type"], state["data"]) == ("COMPLETED", None)
    details = {k: v for k, v in state["state_details"].items() if v}
    assert set(details) == {"flow_run_id", "transition_id"}
    assert details["flow_run_id"] == run_id


async def test_force_is_never_passed_on(gateway: Any, north: Any) -> None:
    run_id = await running(north)
    seen: list[bytes] = []
    call = gateway.services.gateway.upstream.call

    async def watched(method: str, path: str, body: bytes | None = None, **rest: Any) -> Any:
        seen.append(body or b"")
        return await call(method, path, body, **rest)

    gateway.services.gateway.upstream.call = watched
    forced = await north.client.post(
        f"/flow_runs/{run_id}/set_state",
        json={"state": {"type": "CANCELLED"}, "force": True, "orchestration_parameters": {}},
    )
    assert forced.status_code == 201
    assert [json.loads(body)["force"] for body in seen if b"force" in body] == [False]


NOT_A_HOSPITAL_S = [
    ("SCHEDULED", None),
    ("SCHEDULED", "AwaitingRetry"),
    ("PAUSED", None),
    ("CANCELLING", None),
    ("RUNNING", "Late"),
    ("COMPLETED", "Cached"),
    ("NONSENSE", None),
    ("running", None),
]


async def test_states_that_are_not_a_hospital_s(north: Any) -> None:
    for state_type, name in NOT_A_HOSPITAL_S:
        refused = await north.go(north.run_id, state_type, name=name)
        assert refused.status_code == 403
        assert refused.json()["errors"][0]["rule"] == "state"
    assert (await north.upstream_run())["state_type"] == "SCHEDULED"


async def test_a_run_does_not_skip_ahead(north: Any) -> None:
    assert (await north.go(north.run_id, "COMPLETED")).status_code == 403
    assert (await north.go(north.run_id, "PENDING")).status_code == 201
    assert (await north.go(north.run_id, "COMPLETED")).status_code == 403
    assert (await north.upstream_run())["state_type"] == "PENDING"


async def test_a_run_may_go_straight_to_running_and_never_back(north: Any) -> None:
    assert (await north.go(north.run_id, "RUNNING")).json()["status"] == "ACCEPT"
    for state in ("PENDING", "SCHEDULED"):
        assert (await north.go(north.run_id, state)).status_code == 403
    assert (await north.upstream_run())["state_type"] == "RUNNING"


async def test_nothing_leaves_a_terminal_state(north: Any) -> None:
    for terminal in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
        run_id = await running(north)
        assert (await north.go(run_id, terminal)).status_code == 201
        ended = (await north.upstream_run(run_id))["state_id"]
        for state in ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            answer = await north.go(run_id, state)
            assert (answer.status_code, answer.json()["status"]) == (200, "ABORT")
        assert (await north.upstream_run(run_id))["state_id"] == ended


async def test_what_others_did_to_a_run_is_seen_before_a_refusal(north: Any) -> None:
    run_id = await running(north)
    assert (await north.go(run_id, "FAILED")).status_code == 201
    again = await north.server.post(
        f"/flow_runs/{run_id}/set_state", json={"state": {"type": "SCHEDULED"}, "force": True}
    )
    assert again.json()["status"] == "ACCEPT"
    assert (await north.go(run_id, "PENDING")).json()["status"] == "ACCEPT"


async def test_a_cancellation_of_the_coordinator_s_is_carried_out(north: Any) -> None:
    run_id = await running(north)
    await north.server.post(
        f"/flow_runs/{run_id}/set_state", json={"state": {"type": "CANCELLING"}}
    )
    forced = {"state": {"type": "CANCELLED", "name": "Cancelled"}, "force": True}
    done = await north.client.post(f"/flow_runs/{run_id}/set_state", json=forced)
    assert done.json()["status"] == "ACCEPT"
    assert (await north.upstream_run(run_id))["state_type"] == "CANCELLED"


async def test_two_changes_at_once_are_checked_one_after_the_other(north: Any) -> None:
    run_id = await running(north)
    ends = await asyncio.gather(*(north.go(run_id, s) for s in ("COMPLETED", "RUNNING", "FAILED")))
    assert (
        sum(
            end.status_code == 201 and end.json()["state"]["type"] in {"COMPLETED", "FAILED"}
            for end in ends
        )
        == 1
    )


OTHER_FIELDS: list[dict[str, Any]] = [
    {"job_variables": {"command": "id"}},
    {"infrastructure_pid": "1", "job_variables": {"env": {"A": "b"}}},
    {"parameters": {"invitation": {}}},
    {"name": "federated-round"},
    {"tags": ["x"]},
    {"empirical_policy": {"retries": 9}},
]


async def test_no_other_field_of_a_run_is_changed(north: Any) -> None:
    before = await north.upstream_run()
    for body in OTHER_FIELDS:
        refused = await north.client.patch(f"/flow_runs/{north.run_id}", json=body)
        assert (refused.status_code, refused.json()["errors"][0]["rule"]) == (403, "field")
    assert (await north.upstream_run())["updated"] == before["updated"]


async def test_one_foreign_line_of_a_log_refuses_them_all(north: Any, south: Any) -> None:
    for other in (south.run_id, str(uuid4())):
        lines = [line(north.run_id), line(other)]
        assert (await north.client.post("/logs/", json=lines)).status_code == 403
    task = line(north.run_id, task_run_id=str(uuid4()))
    assert (await north.client.post("/logs/", json=[task])).status_code == 403
    nobody_s = line(north.run_id)
    del nobody_s["flow_run_id"]
    assert (await north.client.post("/logs/", json=[nobody_s])).status_code == 422
    for run_id in (north.run_id, south.run_id):
        found = {"logs": {"flow_run_id": {"any_": [run_id]}}}
        assert (await north.server.post("/logs/filter", json=found)).json() == []


async def test_bodies_have_their_bounds(north: Any) -> None:
    padding = "x" * 1_100_000
    calls = [
        ("POST", f"/work_pools/{north.pool}/get_scheduled_flow_runs", {"x": padding}),
        ("POST", f"/work_pools/{north.pool}/workers/heartbeat", {"name": padding}),
        ("PATCH", f"/flow_runs/{north.run_id}", {"flow_version": padding}),
        ("PATCH", f"/flow_runs/{north.run_id}/labels", {"x": padding}),
        ("POST", f"/flow_runs/{north.run_id}/set_state", {"state": {"type": padding}}),
        ("POST", "/logs/", [line(north.run_id, message=padding)]),
    ]
    for method, path, body in calls:
        assert (await north.client.request(method, path, json=body)).status_code == 413, path
    many = [line(north.run_id)] * 501
    assert (await north.client.post("/logs/", json=many)).status_code == 422


async def test_another_pool_s_queues_and_times_do_not_widen_the_question(
    north: Any, south: Any
) -> None:
    body = {
        "work_queue_names": ["default", f"{south.pool}/default"],
        "work_pool_name": south.pool,
        "limit": 100,
    }
    asked = await north.client.post(f"/work_pools/{north.pool}/get_scheduled_flow_runs", json=body)
    assert {item["flow_run"]["deployment_id"] for item in asked.json()} == {north.deployment["id"]}
    over = {"limit": 101}
    asked = await north.client.post(f"/work_pools/{north.pool}/get_scheduled_flow_runs", json=over)
    assert asked.status_code == 422


async def test_a_refusal_is_logged_without_what_was_sent(
    north: Any, south: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="api.gateway"):
        await north.client.patch(f"/flow_runs/{south.run_id}", json={"flow_version": "sesame"})
        await north.client.post("/block_documents/filter?token=sesame", json={"sesame": 1})
    assert [record.getMessage() for record in caplog.records] == [
        "gateway refused: hospital=north method=PATCH path=/flow_runs/{id} rule=own status=403",
        "gateway refused: hospital=north method=POST path=/block_documents/… rule=call status=403",
    ]
