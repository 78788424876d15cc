from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api.prefect_api import (
    NO_VARIABLES,
    PrefectApi,
    PrefectRefused,
    PrefectUnavailable,
    invitation_schema,
)

pytestmark = pytest.mark.anyio
ID = "11111111-2222-3333-4444-555555555555"
Answer = Callable[[str, str, Any], httpx.Response]


def prefect(answer: Answer) -> PrefectApi:
    def handle(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        return answer(request.method, request.url.path, body)

    client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    return PrefectApi("http://prefect/api/", client)


async def test_makes_pool_flow_and_deployment() -> None:
    calls: list[tuple[str, str, Any]] = []

    def answer(method: str, path: str, body: Any) -> httpx.Response:
        calls.append((method, path, body))
        return httpx.Response(201, json={"id": ID})

    await prefect(answer).ensure_hospital_pool("charite")
    pool, flow, deployment = calls
    assert pool[:2] == ("POST", "/api/work_pools/")
    assert pool[2]["name"] == "hospital-charite"
    assert pool[2]["type"] == "hospital"
    assert pool[2]["base_job_template"] == NO_VARIABLES
    assert flow == ("POST", "/api/flows/", {"name": "hospital-round"})
    assert deployment[:2] == ("POST", "/api/deployments/")
    assert deployment[2]["name"] == "charite"
    assert deployment[2]["flow_id"] == ID
    assert deployment[2]["work_pool_name"] == "hospital-charite"
    assert deployment[2]["enforce_parameter_schema"] is True


@pytest.mark.parametrize(
    ("kind", "template", "is_ours"),
    [
        ("hospital", NO_VARIABLES, True),
        ("process", NO_VARIABLES, False),
        ("hospital", {"job_configuration": {"command": "{{ command }}"}, "variables": {}}, False),
    ],
)
async def test_a_pool_that_is_there_must_be_ours(kind: str, template: Any, is_ours: bool) -> None:
    def answer(method: str, path: str, body: Any) -> httpx.Response:
        if (method, path) == ("POST", "/api/work_pools/"):
            return httpx.Response(409, json={"detail": "exists"})
        return httpx.Response(200, json={"id": ID, "type": kind, "base_job_template": template})

    ensuring = prefect(answer).ensure_hospital_pool("hospital-1")
    if is_ours:
        await ensuring
    else:
        with pytest.raises(PrefectRefused, match="hospital-1"):
            await ensuring


async def test_creates_a_run_of_the_named_deployment() -> None:
    run_id = str(uuid4())
    seen: list[Any] = []

    def answer(method: str, path: str, body: Any) -> httpx.Response:
        if method == "GET":
            assert path == "/api/deployments/name/federated-training/nightly"
            return httpx.Response(200, json={"id": ID})
        assert path == f"/api/deployments/{ID}/create_flow_run"
        seen.append(body)
        return httpx.Response(201, json={"id": run_id})

    created = await prefect(answer).create_flow_run(
        deployment="federated-training/nightly",
        name="breast-cancer-1",
        parameters={"a": 1},
        idempotency_key="once",
    )
    assert created == UUID(run_id)
    assert seen == [{"name": "breast-cancer-1", "parameters": {"a": 1}, "idempotency_key": "once"}]


@pytest.mark.parametrize(
    ("response", "error", "says"),
    [
        (httpx.Response(404, json={"detail": "Deployment not found"}), PrefectRefused, "not found"),
        (httpx.Response(422, json=["strange"]), PrefectRefused, "422"),
        (httpx.Response(409, json={"detail": "x" * 10_000}), PrefectRefused, "409"),
        (httpx.Response(500, text="oops"), PrefectUnavailable, "500"),
        (httpx.Response(200, text="<html>"), PrefectUnavailable, "JSON"),
        (httpx.Response(200, json=[]), PrefectUnavailable, "id"),
        (httpx.Response(200, json={}), PrefectUnavailable, "id"),
    ],
)
async def test_what_prefect_does_wrong_is_named(
    response: httpx.Response, error: type[Exception], says: str
) -> None:
    api = prefect(lambda *_: response)
    with pytest.raises(error, match=says) as raised:
        await api.create_flow_run(deployment="a/b", name="n", parameters={}, idempotency_key="k")
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("error", [httpx.ConnectError("no"), httpx.ReadTimeout("late")])
async def test_a_server_that_is_away_is_named(error: Exception) -> None:
    def answer(*_: Any) -> httpx.Response:
        raise error

    with pytest.raises(PrefectUnavailable, match=r"http://prefect/api.*" + type(error).__name__):
        await prefect(answer).ensure_hospital_pool("north")


def test_the_schema_asks_for_one_invitation() -> None:
    schema = invitation_schema()
    assert schema["required"] == ["invitation"]
    text = json.dumps(schema)
    assert "$defs" not in text
    for reference in {part.split('"')[0] for part in text.split('"$ref": "')[1:]}:
        assert reference.removeprefix("#/definitions/") in schema["definitions"]
    assert schema["definitions"]["RoundInvitation"]["additionalProperties"] is False
