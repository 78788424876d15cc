"""What becomes of an event, with a Prefect server made of a function."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Problem
from api.gateway.events import MAX_RELATED, inspect, worker_prefix
from api.gateway.own import OwnObjects
from api.gateway.upstream import Upstream

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
POOL_ID, RUN, FLOW = str(uuid4()), str(uuid4()), str(uuid4())
WORKER = {"prefect.resource.id": "prefect.worker.hospital.north-host"}
TAG = {"prefect.resource.id": "prefect.tag.hospital", "prefect.resource.role": "tag"}


def prefect(request: httpx.Request) -> httpx.Response:
    known = {
        "/api/work_pools/hospital-north": {"id": POOL_ID},
        f"/api/flow_runs/{RUN}": {"work_pool_name": "hospital-north", "state_type": "RUNNING"},
        f"/api/flows/{FLOW}": {"name": "hospital-round"},
    }
    found = known.get(request.url.path)
    return httpx.Response(200, json=found) if found else httpx.Response(404, json={})


def inspected(event: Any) -> Any:
    async def run() -> Any:
        own = OwnObjects(Upstream("http://prefect/api", httpx.MockTransport(prefect)))
        return await inspect(own, "north", json.dumps(event).encode(), now=NOW)

    return anyio.run(run)


def event(**changes: Any) -> dict[str, Any]:
    found = {"id": str(uuid4()), "occurred": NOW.isoformat(), "event": "prefect.worker.started"}
    return {**found, "resource": WORKER, "related": [], **changes}


def refusal(sent: Any) -> Problem:
    with pytest.raises(Problem) as refused:
        inspected(sent)
    return refused.value


def test_a_name_in_a_related_resource_is_the_gateway_s() -> None:
    named = {"prefect.resource.name": "federated-round", "prefect.resource.role": "work-pool"}
    pool = {**named, "prefect.resource.id": f"prefect.work-pool.{POOL_ID}"}
    flow = {**named, "prefect.resource.id": f"prefect.flow.{FLOW}", "prefect.resource.role": "flow"}
    passed = inspected(event(related=[pool, flow, TAG]))
    assert [item.get("prefect.resource.name") for item in passed["related"]] == [
        "hospital-north",
        "hospital-round",
        None,
    ]


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5))
def test_of_a_resource_s_labels_only_the_known_go_on(labels: dict[str, str]) -> None:
    run = {
        **labels,
        "prefect.resource.id": f"prefect.flow-run.{RUN}",
        "prefect.resource.role": "flow-run",
        "prefect.resource.name": "a\x00name",
        "prefect.state-type": "COMPLETED",
    }
    passed = inspected(event(related=[run], resource={**labels, **WORKER}))
    assert passed["related"] == [
        {
            "prefect.resource.id": run["prefect.resource.id"],
            "prefect.resource.role": "flow-run",
            "prefect.resource.name": "a\ufffdname",
        }
    ]
    assert set(passed["resource"]) == {
        "prefect.resource.id",
        "prefect.resource.name",
        "prefect.worker-type",
    }


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_moved_to_about_now(occurred: datetime) -> None:
    passed = inspected(event(occurred=occurred.isoformat()))
    assert NOW - timedelta(days=7) <= passed["occurred"] <= NOW + timedelta(minutes=5)


@given(st.text())
def test_only_a_worker_s_events_pass(name: str) -> None:
    assert refusal(event(event=name)).status_code in {403, 422}
    assert refusal(event(event=f"prefect.flow-run.{name}")).status_code in {403, 422}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"related": [TAG] * (MAX_RELATED + 1)}, 422),
        ({"related": [{**TAG, "prefect.resource.id": "prefect.tag.a b"}]}, 403),
        ({"related": [{"prefect.resource.id": "prefect.tag.hospital"}]}, 403),
        ({"related": [{**TAG, "prefect.resource.role": "creator"}]}, 403),
        ({"related": [{"prefect.resource.role": "worker"}]}, 403),
        ({"resource": {}}, 403),
        ({"resource": {**WORKER, **{f"label{n}": "" for n in range(17)}}}, 422),
        ({"occurred": "2026-11-25T12:00:00"}, 422),
        ({"id": "1"}, 422),
        ({"follows": "1"}, 422),
    ],
)
def test_events_that_are_refused(changes: dict[str, Any], status: int) -> None:
    assert refusal(event(**changes)).status_code == status


@pytest.mark.parametrize("slug", ["north", "north-host", "north-host-2"])
def test_an_own_worker(slug: str) -> None:
    resource = {"prefect.resource.id": f"prefect.worker.hospital.{slug}"}
    assert inspected(event(resource=resource))["resource"]["prefect.resource.name"] == slug


@pytest.mark.parametrize("slug", ["northern", "south-host", "nort", "", "north/host", "North"])
def test_another_s_worker(slug: str) -> None:
    resource = {"prefect.resource.id": f"prefect.worker.hospital.{slug}"}
    assert refusal(event(resource=resource)).errors[0].rule == "own"


def test_the_beginning_of_a_worker_s_name() -> None:
    assert worker_prefix("north-") == "north"
