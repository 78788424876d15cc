"""Hospitals, models, metrics, the audit record and health."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from db.queries import audit, hospitals
from db.session import transaction

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def post(api: Any, path: str, body: Any, scope: str) -> Any:
    return await api.client.post(path, json=body, headers=api.may(scope))


async def test_health(api: Any) -> None:
    assert (await api.client.get("/health")).json() == {"status": "ok"}


async def test_writes_leave_audit_events_that_verify(api: Any) -> None:
    await api.add_hospital("north")
    await api.add_model()
    events = await api.get("/audit/events", "audit:read")
    assert [(e["actor"], e["action"], e["subject"].split(":")[0]) for e in events] == [
        ("user:test", "hospital.invited", "hospital"),
        ("hospital:north", "hospital.joined", "hospital"),
        ("user:test", "model.added", "model"),
    ]
    with transaction(api.engine) as session:
        assert audit.verify_chain(session) == 3
    after = await api.get("/audit/events?after=1&limit=1", "audit:read")
    assert after == events[1:2]
    chosen = await api.get("/audit/events?action=model.added", "audit:read")
    assert chosen == events[2:]
    assert await api.get("/audit/events?subject=hospital:north", "audit:read") == events[:2]


async def test_absurd_pages_are_refused(api: Any) -> None:
    for name, value in [
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "x"),
        ("after", "-1"),
        ("after", str(2**63)),
        ("action", "a%00b"),
    ]:
        answer = await api.client.get(
            f"/audit/events?{name}={value}", headers=api.may("audit:read")
        )
        assert answer.status_code == 422, (name, value)
        assert answer.json()["errors"][0]["field"] == name


async def test_a_hospital_is_added_once(api: Any) -> None:
    await api.add_hospital("north")
    before = api.contents()
    body = {"hospital_id": "north", "name": "Another"}
    again = await post(api, "/hospitals", body, "hospitals:write")
    assert again.status_code == 409
    assert again.json()["type"] == "/problems/already-exists"
    assert again.json()["errors"][0]["field"] == "hospital"
    assert api.contents() == before


async def test_two_hospitals_do_not_share_a_pool(api: Any) -> None:
    await api.add_hospital("north")
    before = api.contents()
    body = {"hospital_id": "hospital-north", "name": "x"}
    shared = await post(api, "/hospitals", body, "hospitals:write")
    assert shared.status_code == 409
    assert shared.json()["errors"][0]["rule"] == "pool-taken"
    assert api.contents() == before


WRONG_HOSPITALS: list[tuple[Any, str, str]] = [
    ({}, "name", "missing"),
    ({"name": "北京"}, "hospital_id", "missing"),
    ({"name": "x", "valid_days": 0}, "valid_days", "greater_than_equal"),
    ({"name": "x", "valid_days": 91}, "valid_days", "less_than_equal"),
    ({"hospital_id": "North", "name": "x"}, "hospital_id", "string_pattern_mismatch"),
    ({"hospital_id": "../x", "name": "x"}, "hospital_id", "string_pattern_mismatch"),
    ({"hospital_id": "a\n", "name": "x"}, "hospital_id", "string_pattern_mismatch"),
    ({"hospital_id": "a" * 64, "name": "x"}, "hospital_id", "string_pattern_mismatch"),
    ({"hospital_id": "a", "name": ""}, "name", "string_too_short"),
    ({"hospital_id": "a", "name": "x\0"}, "name", "string_pattern_mismatch"),
    ({"hospital_id": "a", "name": "x\n"}, "name", "string_pattern_mismatch"),
    ({"hospital_id": "a", "name": "x", "role": "admin"}, "role", "extra_forbidden"),
    ([], "body", "model_attributes_type"),
]


async def test_hospitals_of_the_wrong_shape(api: Any) -> None:
    before = api.contents()
    for body, field, rule in WRONG_HOSPITALS:
        answer = await post(api, "/hospitals", body, "hospitals:write")
        assert answer.status_code == 422, (body, answer.text)
        assert (field, rule) in [(e["field"], e["rule"]) for e in answer.json()["errors"]]
    assert api.contents() == before
    assert not api.prefect.pools


async def publish(api: Any, hospital_id: str, caller: str, **changes: Any) -> Any:
    keys = {"signing_key": "a" * 64, "sealing_key": "b" * 64, **changes}
    return await api.client.put(
        f"/hospitals/{hospital_id}/identity", json=keys, headers=api.may(hospital=caller)
    )


async def test_a_hospital_publishes_its_own_keys_once(api: Any) -> None:
    await api.add_hospital("north", with_keys=False)
    first = await publish(api, "north", "north")
    assert first.status_code == 200
    assert first.json()["signing_key"] == "a" * 64
    before = api.contents()
    assert (await publish(api, "north", "north")).json() == first.json()
    changed = await publish(api, "north", "north", sealing_key="c" * 64)
    assert changed.status_code == 409
    assert changed.json()["errors"][0]["rule"] == "identity-changed"
    assert api.contents() == before


async def test_a_hospital_cannot_publish_for_another(api: Any) -> None:
    for hospital_id in ("north", "south"):
        await api.add_hospital(hospital_id, with_keys=False)
    before = api.contents()
    answer = await publish(api, "north", "south")
    assert answer.status_code == 403
    assert answer.json()["type"] == "/problems/another-hospital"
    assert api.contents() == before


async def test_a_key_is_32_bytes_in_hex(api: Any) -> None:
    await api.add_hospital("north", with_keys=False)
    for key in ("", "a" * 63, "A" * 64, "g" * 64, 7, None):
        answer = await publish(api, "north", "north", signing_key=key)
        assert answer.status_code == 422, key
        assert answer.json()["errors"][0]["field"] == "signing_key"


async def test_a_token_of_a_hospital_that_is_gone(api: Any) -> None:
    assert (await publish(api, "ghost", "ghost")).status_code == 401
    answer = await api.client.get("/hospitals/ghost", headers=api.may("training:read"))
    assert answer.status_code == 404
    assert answer.json()["type"] == "/problems/unknown-hospital"


async def test_registers_models_by_name_and_version(api: Any) -> None:
    first = await api.add_model()
    assert (first["name"], first["version"]) == ("breast-cancer", 1)
    before = api.contents()
    same = await post(api, "/models", api.model, "models:write")
    assert same.status_code == 409
    assert same.json()["errors"][0]["field"] == "model"
    assert api.contents() == before
    api.model["architecture"]["hidden"] = [8, 8]
    assert (await api.add_model())["version"] == 2
    listed = await api.get("/models", "training:read")
    assert [m["version"] for m in listed] == [1, 2]
    assert await api.get("/models/breast-cancer", "training:read") == listed[1]
    assert await api.get("/models/breast-cancer?version=1", "training:read") == first


async def test_unknown_models(api: Any) -> None:
    await api.add_model()
    for path in (
        "/models/other",
        "/models/breast-cancer?version=2",
        "/metrics/other",
        "/metrics/11111111-2222-3333-4444-555555555555",
    ):
        answer = await api.client.get(path, headers=api.may("training:read", "metrics:read"))
        assert answer.status_code == 404, path
        assert answer.json()["type"] == "/problems/unknown-model"


async def test_names_of_the_wrong_shape(api: Any) -> None:
    for path in (
        "/models/a%00b",
        "/models/A",
        "/models/m?version=99999999999",
        "/metrics/a%00b",
    ):
        answer = await api.client.get(path, headers=api.may("training:read", "metrics:read"))
        assert answer.status_code == 422, path


def changed(model: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split(".")
    place: Any = model
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return model


WRONG_MODELS: list[tuple[str, Any, str]] = [
    ("name", "Breast Cancer", "name"),
    ("architecture", {"kind": "transformer"}, "architecture"),
    ("architecture.hidden", [0], "architecture.mlp.hidden.0"),
    ("architecture.hidden", [], "architecture.mlp.hidden"),
    ("contract.columns", [], "contract"),
    ("contract.columns.0.minimum", 40, "contract.columns.0.number"),
    ("contract.columns.0.minimum", float("nan"), "contract.columns.0.number.minimum"),
    ("contract.columns.0.maximum", float("inf"), "contract.columns.0.number.maximum"),
    ("contract.columns.0.name", "malignant", "contract"),
    ("contract.label.positive", "0", "contract.label"),
    ("contract.label.positive", "\0", "contract.label.positive"),
    ("description", "a\0b", "body"),
    ("description", "\ud800", "description"),
    ("hyperparameters", {"learning_rate": 0}, "hyperparameters.learning_rate"),
    ("code", "import os", "code"),
]


async def test_models_of_the_wrong_shape(api: Any) -> None:
    before = api.contents()
    headers = {**api.may("models:write"), "Content-Type": "application/json"}
    for path, value, field in WRONG_MODELS:
        # Not by httpx's own encoder: it refuses what a hostile client may well send.
        body = json.dumps(changed(copy.deepcopy(api.model), path, value))
        answer = await api.client.post("/models", content=body, headers=headers)
        assert answer.status_code == 422, (path, value, answer.text)
        assert field in [e["field"] for e in answer.json()["errors"]], (path, value)
    assert api.contents() == before


async def test_bodies_that_are_no_json(api: Any) -> None:
    headers = {**api.may("models:write"), "Content-Type": "application/json"}
    for content, status in [
        (b"{", 422),
        (b"", 422),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b"x" * 3_000_000, 413),
    ]:
        answer = await api.client.post("/models", content=content, headers=headers)
        assert answer.status_code == status, content[:10]
        assert answer.headers["content-type"] == "application/problem+json"


async def test_metrics_of_a_model_by_name_and_id(api: Any) -> None:
    round_id = await api.open_round("north", "south", "west")
    api.close(round_id, state="completed", metrics={"auc": 0.9}, epsilon=0.3, delta=1e-5)
    by_name = await api.get("/metrics/breast-cancer", "metrics:read")
    by_id = await api.get(f"/metrics/{by_name['model']['model_id']}", "metrics:read")
    assert by_id == by_name
    (training,) = by_name["trainings"]
    assert training["rounds"][0]["metrics"] == {"auc": 0.9}
    assert training["epsilon_spent"] == 0.3
    assert training["completed_rounds"] == 1


async def test_many_writers_keep_the_chain(api: Any) -> None:
    await asyncio.gather(*(api.add_hospital(f"h{n}") for n in range(8)))
    with transaction(api.engine) as session:
        assert audit.verify_chain(session) == 16
        assert len(hospitals.list_hospitals(session)) == 8


async def test_the_database_is_away(api: Any) -> None:
    class Gone:
        def connect(self, *_: Any, **__: Any) -> Any:
            raise OperationalError("", {}, Exception("the password is hunter2"))

    services = api.app.state.services
    api.app.state.services = dataclasses.replace(services, engine=Gone())
    answer = await api.client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/database-unavailable"
    assert "hunter2" not in answer.text
