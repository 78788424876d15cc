"""A hospital's calls through the gateway to a real Prefect server."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from db.queries import users
from db.session import transaction
from fl.names import GATEWAY_PATH

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

NOW = "2026-11-25T12:00:00Z"
NOT_LISTED: list[tuple[str, str, Any]] = [
    ("POST", "/work_pools/", {"name": "evil", "type": "process"}),
    ("PATCH", "/work_pools/{pool}", {"base_job_template": {}}),
    ("DELETE", "/work_pools/{pool}", None),
    ("POST", "/work_pools/filter", {}),
    ("POST", "/work_pools/{pool}/workers/filter", {}),
    ("POST", "/work_pools/{pool}/queues", {"name": "q"}),
    ("POST", "/deployments/", {"name": "evil", "flow_id": "{flow}"}),
    ("PATCH", "/deployments/{deployment}", {"pull_steps": [{"run_shell_script": {}}]}),
    ("DELETE", "/deployments/{deployment}", None),
    ("POST", "/deployments/{deployment}/create_flow_run", {"job_variables": {"command": "id"}}),
    ("GET", "/deployments/name/hospital-round/north", None),
    ("POST", "/deployments/get_scheduled_flow_runs", {"deployment_ids": ["{deployment}"]}),
    ("POST", "/flow_runs/", {"flow_id": "{flow}"}),
    ("POST", "/flow_runs/filter", {}),
    ("POST", "/flow_runs/bulk_set_state", {}),
    ("DELETE", "/flow_runs/{run}", None),
    ("POST", "/flow_runs/{run}/resume", {}),
    ("POST", "/flow_runs/{run}/input", {"key": "k", "value": "v"}),
    ("GET", "/flow_run_states/", None),
    ("POST", "/flows/", {"name": "evil"}),
    ("POST", "/task_runs/", {"task_key": "k", "dynamic_key": "0"}),
    ("POST", "/block_documents/filter", {}),
    ("POST", "/block_types/filter", {}),
    ("POST", "/variables/", {"name": "v", "value": 1}),
    ("POST", "/variables/filter", {}),
    ("POST", "/concurrency_limits/", {"tag": "hospital", "concurrency_limit": 0}),
    ("POST", "/v2/concurrency_limits/increment", {"names": ["x"], "slots": 1}),
    ("POST", "/automations/", {}),
    ("POST", "/artifacts/", {"key": "k"}),
    ("POST", "/logs/filter", {}),
    ("POST", "/events", []),
    ("POST", "/events/filter", {}),
    ("GET", "/admin/settings", None),
    ("POST", "/admin/database/clear", {"confirm": True}),
    ("GET", "/events/in", None),
    ("PROPFIND", "/health", None),
    ("HEAD", "/health", None),
    ("OPTIONS", "/health", None),
    ("GET", "/", None),
    ("GET", "", None),
]


def log_line(run_id: str, **changes: Any) -> dict[str, Any]:
    line = {"flow_run_id": run_id, "name": "prefect.flow_runs", "level": 20, "timestamp": NOW}
    return {**line, "message": "a line", **changes}


async def test_a_round_s_calls_of_a_worker_and_its_run(north: Any) -> None:
    get, post, patch = north.client.get, north.client.post, north.client.patch
    assert (await get("/health")).json() is True
    assert (await get("/admin/version")).json().startswith("3.")
    beat = {"name": "north-host", "heartbeat_interval_seconds": 30, "metadata": {"x": "y"}}
    assert (await post(f"/work_pools/{north.pool}/workers/heartbeat", json=beat)).status_code == 204
    assert (await get(f"/work_pools/{north.pool}")).json()["type"] == "hospital"

    work = await north.work()
    assert north.run_id in [item["flow_run"]["id"] for item in work]
    assert "invitation" in work[0]["flow_run"]["parameters"]
    deployment = await get(f"/deployments/{north.deployment['id']}")
    assert deployment.json()["name"] == "north"
    assert (await get(f"/flows/{north.deployment['flow_id']}")).json()["name"] == "hospital-round"

    run = f"/flow_runs/{north.run_id}"
    assert (await north.go(north.run_id, "PENDING")).json()["status"] == "ACCEPT"
    assert (await patch(run, json={"infrastructure_pid": "71"})).status_code == 204
    assert (await patch(f"{run}/labels", json={"prefect.worker.name": "n"})).status_code == 204
    assert (await north.go(north.run_id, "RUNNING")).status_code == 201
    assert (await get(run)).json()["state_type"] == "RUNNING"
    assert (await post("/logs/", json=[log_line(north.run_id)])).status_code == 201
    assert (await north.go(north.run_id, "COMPLETED", message="1.5 s")).status_code == 201

    done = await north.upstream_run()
    assert (done["state_type"], done["state"]["message"]) == ("COMPLETED", "1.5 s")
    assert (done["infrastructure_pid"], done["labels"]["prefect.worker.name"]) == ("71", "n")
    logs = await north.server.post(
        "/logs/filter", json={"logs": {"flow_run_id": {"any_": [north.run_id]}}}
    )
    assert [line["message"] for line in logs.json()] == ["a line"]


async def test_the_answer_about_csrf_is_prefect_s_own(gateway: Any, north: Any) -> None:
    asked = f"/csrf-token?client={uuid4()}"
    own, theirs = await gateway.server.get(asked), await north.client.get(asked)
    assert own.status_code == theirs.status_code == 422
    assert own.json() == theirs.json()


async def test_nothing_of_the_server_s_but_status_and_body_comes_back(
    gateway: Any, north: Any
) -> None:
    path = f"/flows/{north.deployment['flow_id']}"
    answer = await north.client.get(path)
    own = await north.client.get(gateway.url.removesuffix(GATEWAY_PATH) + "/health")
    assert set(answer.headers) == set(own.headers)
    assert "server" not in own.headers
    assert answer.content == (await gateway.server.get(path)).content


async def test_without_a_token(gateway: Any, north: Any) -> None:
    for path in ("/health", f"/work_pools/{north.pool}", "/block_documents/filter"):
        for value in ("", "Bearer nonsense", "Basic Z2F0ZXdheTp4"):
            answer = await north.client.get(path, headers={"Authorization": value})
            assert answer.status_code == 401
            assert answer.headers["content-type"] == "application/problem+json"


async def test_a_person_is_no_hospital(gateway: Any, north: Any) -> None:
    with transaction(gateway.services.engine) as session:
        users.add_user(session, username="ada", password_hash="none", role="operator")
    token = gateway.services.tokens.issue(
        subject="user:ada", scopes=frozenset({"exchange", "training:read"}), generation=1
    )
    answer = await north.client.get("/health", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/insufficient-scope")


async def test_what_is_another_hospital_s_and_what_is_not_there_look_alike(
    north: Any, south: Any
) -> None:
    calls: list[tuple[str, str, Any]] = [
        ("GET", "/flow_runs/{run}", None),
        ("PATCH", "/flow_runs/{run}", {"infrastructure_pid": "1"}),
        ("PATCH", "/flow_runs/{run}/labels", {"a": "b"}),
        ("POST", "/flow_runs/{run}/set_state", {"state": {"type": "CANCELLED"}}),
        ("GET", "/deployments/{deployment}", None),
        ("GET", "/flows/{flow}", None),
        ("GET", "/work_pools/{pool}", None),
        ("POST", "/work_pools/{pool}/get_scheduled_flow_runs", {}),
        ("POST", "/work_pools/{pool}/workers/heartbeat", {"name": "north-host"}),
    ]
    other_flow = (await north.server.post("/flows/", json={"name": "federated-round"})).json()
    theirs = {
        "run": south.run_id,
        "deployment": south.deployment["id"],
        "flow": other_flow["id"],
        "pool": south.pool,
    }
    nobody_s = {name: str(uuid4()) for name in theirs}
    before = await south.upstream_run()
    for method, path, body in calls:
        foreign = await north.client.request(method, path.format(**theirs), json=body)
        absent = await north.client.request(method, path.format(**nobody_s), json=body)
        assert foreign.status_code == absent.status_code == 403
        assert foreign.content == absent.content
        assert foreign.json()["errors"][0]["rule"] == "own"
    after = await south.upstream_run()
    assert (after["updated"], after["state_id"]) == (before["updated"], before["state_id"])
    assert (after["infrastructure_pid"], after["labels"]) == (None, before["labels"])


async def test_whatever_is_not_listed_is_refused(north: Any) -> None:
    values = {
        "pool": north.pool,
        "deployment": north.deployment["id"],
        "flow": north.deployment["flow_id"],
        "run": north.run_id,
    }
    before = await north.upstream_run()
    for method, path, body in NOT_LISTED:
        sent = json.dumps(body) if body is not None else None
        for name, value in values.items():
            sent = sent and sent.replace(f"{{{name}}}", value)
        answer = await north.client.request(method, path.format(**values), content=sent)
        assert answer.status_code == 403, (method, path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert method == "HEAD" or answer.json()["type"] == "/problems/gateway-refused"
    # A method that no standard has does not get past the server's parser.
    assert (await north.client.request("BREW", "/health")).status_code == 400
    after = await north.upstream_run()
    assert (after["updated"], after["state_id"]) == (before["updated"], before["state_id"])
