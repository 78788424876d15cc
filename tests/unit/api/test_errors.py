from __future__ import annotations

import json
from uuid import UUID

import httpx
import psycopg2
import pytest
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.errors import Problem, as_problem, install_error_map, problem_response
from api.prefect_api import PrefectRefused, PrefectUnavailable
from db.errors import (
    AlreadyExists,
    BlobCorrupt,
    BlobMissing,
    Conflict,
    NotFound,
    RoundClosed,
    TooFewHospitals,
)
from privacy.errors import PlanError

ID = UUID(int=1)
TOO_FEW = TooFewHospitals(least=3, found=2, round_id=ID)
CLOSED = RoundClosed(ID, state="failed", reason="north was silent")
AWAY = OperationalError("SELECT 1", {}, Exception("refused"))
LOST = DBAPIError("SELECT 1", {}, psycopg2.InterfaceError("gone"), connection_invalidated=True)


@pytest.mark.parametrize(
    ("error", "status", "kind", "field", "rule"),
    [
        (NotFound("model", "x"), 404, "unknown-model", "model", "exists"),
        (AlreadyExists("hospital", "x"), 409, "already-exists", "hospital", "unique"),
        (Conflict("some-rule", "why"), 409, "conflict", "", "some-rule"),
        (TOO_FEW, 409, "too-few-hospitals", "least_cohort", "least"),
        (CLOSED, 410, "round-closed", None, None),
        (BlobMissing("ab"), 404, "unknown-blob", None, None),
        (PlanError("epsilon 0.01: impossible"), 422, "privacy-plan", "privacy", "plan"),
        (PrefectUnavailable("away"), 503, "prefect-unavailable", None, None),
        (PrefectRefused("no"), 503, "prefect-refused", None, None),
        (AWAY, 503, "database-unavailable", None, None),
        (LOST, 503, "database-unavailable", None, None),
        (PoolTimeout("pool"), 503, "database-unavailable", None, None),
        (HTTPException(405), 405, "method-not-allowed", None, None),
        (BlobCorrupt("ab", "cd"), 500, "internal", None, None),
        (DBAPIError("SELECT secret", {}, Exception("bug")), 500, "internal", None, None),
        (RuntimeError("secret detail"), 500, "internal", None, None),
    ],
)  # fmt: skip
def test_every_error_has_its_problem(
    error: Exception, status: int, kind: str, field: str | None, rule: str | None
) -> None:
    document = json.loads(problem_response(as_problem(error)).body)
    assert document["type"] == f"/problems/{kind}"
    assert document["status"] == status
    assert set(document) == {"type", "title", "status", "detail", "errors"}
    assert [(e["field"], e["rule"]) for e in document["errors"]] == (
        [] if field is None else [(field, rule)]
    )
    assert "secret" not in json.dumps(document)


def test_a_closed_round_says_why() -> None:
    assert "north was silent" in as_problem(CLOSED).detail


class Body(BaseModel):
    password: str
    numbers: list[int]


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = FastAPI()
    install_error_map(app)

    @app.post("/body")
    def take(body: Body) -> None:
        raise RuntimeError("the password is hunter2")

    @app.get("/item/{item}")
    def read(item: int, limit: int = 1) -> None:
        raise Problem(418, "teapot", "A teapot", detail="short and stout", headers={"X-Tea": "1"})

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.mark.anyio
async def test_fields_are_dotted_paths_and_values_stay_unsaid(client: httpx.AsyncClient) -> None:
    answer = await client.post("/body", json={"password": ["hunter2"], "numbers": [1, "hunter2"]})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [(e["field"], e["rule"]) for e in answer.json()["errors"]] == [
        ("password", "string_type"),
        ("numbers.1", "int_parsing"),
    ]
    assert "hunter2" not in answer.text


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        (b"", "body", "missing"),
        (b"{", "body", "json_invalid"),
        (b"[]", "body", "model_attributes_type"),
    ],
)
async def test_a_body_that_is_none(
    client: httpx.AsyncClient, body: bytes, field: str, rule: str
) -> None:
    answer = await client.post("/body", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert [(e["field"], e["rule"]) for e in answer.json()["errors"]] == [(field, rule)]


@pytest.mark.anyio
async def test_path_and_query_are_fields_too(client: httpx.AsyncClient) -> None:
    answer = await client.get("/item/x", params={"limit": "y"})
    assert [e["field"] for e in answer.json()["errors"]] == ["item", "limit"]


@pytest.mark.anyio
async def test_problems_carry_their_headers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/item/1")
    assert answer.status_code == 418
    assert answer.headers["x-tea"] == "1"
    assert answer.json()["title"] == "A teapot"


@pytest.mark.anyio
async def test_what_nobody_expected_is_logged_and_not_told(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await client.post("/body", json={"password": "x", "numbers": []})
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert "hunter2" in caplog.text


@pytest.mark.anyio
async def test_unknown_paths_and_methods(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nowhere")).json()["type"] == "/problems/not-found"
    assert (await client.get("/body")).json()["type"] == "/problems/method-not-allowed"
