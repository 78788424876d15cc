"""Prefect's own client, proposals and events against the gateway, as a worker uses them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import tenacity
from prefect.client.orchestration import PrefectClient, get_client
from prefect.events import utilities
from prefect.events.clients import PrefectEventsClient
from prefect.events.related import object_as_related_resource, tags_as_related_resources
from prefect.events.schemas.events import Event
from prefect.events.worker import EventsWorker
from prefect.exceptions import Abort
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)
from prefect.states import Completed, Pending, Running
from prefect.utilities.engine import propose_state
from pydantic import SecretStr

from deployments.admission import Admission
from deployments.child import RunOutcome
from deployments.gateway_client import sign_events_in
from deployments.warm import Ended
from deployments.worker import HospitalWorker
from fl.names import GATEWAY_PATH
from tasks.hospital.allowed_flows import approve_code
from tasks.hospital.site import SiteSettings
from tasks.hospital.tokens import Credential, HospitalAuth

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@contextmanager
def settings_of(hospital: Any) -> Iterator[None]:
    """Settings as a hospital has them; no fixture, since a context does not reach a test's task."""
    with temporary_settings(
        {
            PREFECT_API_URL: str(hospital.client.base_url).rstrip("/"),
            PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: True,
            PREFECT_CLIENT_CUSTOM_HEADERS: {"Authorization": f"Bearer {hospital.token}"},
        }
    ):
        yield


async def take_run(client: PrefectClient, north: Any) -> Any:
    await client.send_worker_heartbeat(north.pool, "north-host", heartbeat_interval_seconds=30)
    pool = await client.read_work_pool(north.pool)
    assert pool.type == "hospital"
    work = await client.get_scheduled_flow_runs_for_work_pool(north.pool)
    [run] = [item.flow_run for item in work if str(item.flow_run.id) == north.run_id]
    return run


async def test_a_run_from_its_hand_out_to_its_end(north: Any) -> None:
    with settings_of(north):
        async with get_client() as client:
            run = await take_run(client, north)
            assert (await client.read_flow(run.flow_id)).name == "hospital-round"
            assert (await client.read_deployment(run.deployment_id)).name == "north"
            for state in (Pending(), Running(), Completed(message="1.5 s", data={"a": 1})):
                accepted = await propose_state(client, state, flow_run_id=run.id)
                assert accepted.type == state.type
            assert (await client.read_flow_run(run.id)).state_type == "COMPLETED"
            with pytest.raises(Abort):
                await propose_state(client, Completed(), flow_run_id=run.id)


async def test_a_worker_s_own_events(north: Any) -> None:
    with settings_of(north):
        async with get_client() as client:
            run = await take_run(client, north)
            pool = await client.read_work_pool(north.pool)
            flow = await client.read_flow(run.flow_id)
    related = [
        object_as_related_resource("flow", "flow", flow),
        object_as_related_resource("flow-run", "flow-run", run),
        *tags_as_related_resources(run.tags),
        object_as_related_resource("work-pool", "work-pool", pool),
    ]
    resource = {
        "prefect.resource.id": "prefect.worker.hospital.north-host",
        "prefect.resource.name": "north-host",
        "prefect.version": "3.8.8",
        "prefect.worker-type": "hospital",
    }
    event = Event(event="prefect.worker.submitted-flow-run", resource=resource, related=related)
    with settings_of(north):
        async with PrefectEventsClient(checkpoint_every=1) as events:
            await events.emit(event)
    kept = await _arrived(north, {"id": {"id": [str(event.id)]}})
    assert [item["prefect.resource.role"] for item in kept["related"]] == [
        item.role for item in related
    ]


async def _arrived(north: Any, found_by: dict[str, Any]) -> Any:
    query = {"filter": found_by}

    async def ask() -> Any:
        return (await north.server.post("/events/filter", json=query)).json()["events"]

    looking = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(lambda found: not found),
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(15),
        sleep=asyncio.sleep,
    )
    found = await looking(ask)
    return found[0]


class Forked:
    """A warm process whose child ends well at once."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    async def start(self, request: Any) -> int:
        self.requests.append(request)
        return 71

    async def wait(self, pid: int) -> Ended:
        outcome = RunOutcome(state="completed", message="revealed")
        return Ended(0, outcome.model_dump_json().encode())

    def kill(self, pid: int) -> None:
        raise AssertionError("nothing was cancelled")


@pytest.fixture
async def auth(
    gateway: Any, north: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HospitalAuth]:
    """Signs this process in as the hospital, as its own command does."""
    credential = Credential(client_id="north", client_secret=SecretStr(north.secret))
    auth = HospitalAuth(gateway.url.removesuffix(GATEWAY_PATH), lambda: credential)
    async with httpx.AsyncClient(auth=auth, trust_env=False) as client:
        assert (await client.get(f"{gateway.url}/health")).status_code == 200
    monkeypatch.setattr(utilities, "PrefectEventsClient", PrefectEventsClient)  # put back after it
    sign_events_in(auth)
    yield auth
    EventsWorker.set_client_override(None)


@pytest.fixture
def admission(tmp_path: Path) -> Admission:
    settings = SiteSettings(
        hospital_id="north", hospital_home=tmp_path, data_path=tmp_path, api_url="http://api"
    )
    installed = {"hospital-round": "c" * 64}
    approve_code(settings, installed, now=datetime(2026, 1, 2, tzinfo=UTC))
    return Admission(settings, installed)


async def test_the_hospital_s_worker(
    north: Any, auth: HospitalAuth, admission: Admission, caplog: pytest.LogCaptureFixture
) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("nothing crashed and nothing was refused")

    warm = Forked()
    its_own = {
        PREFECT_API_URL: str(north.client.base_url).rstrip("/"),
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    with temporary_settings(its_own):
        worker = HospitalWorker(
            hospital_id="north",
            warm=warm,  # type: ignore[arg-type]
            admission=admission,
            auth=auth,
            report_crash=never,
            report_refusal=never,
        )
        await worker.start(run_once=True)
        await EventsWorker.drain_all()
    # Runs of other tests wait in the pool, too.
    taken = [json.loads(request["invitation"]) for request in warm.requests]
    assert taken.count(north.invitation) == 1
    states = await north.server.get("/flow_run_states/", params={"flow_run_id": north.run_id})
    in_order = sorted(states.json(), key=lambda state: state["timestamp"])
    assert [state["type"] for state in in_order] == ["SCHEDULED", "RUNNING", "COMPLETED"]
    assert in_order[-1]["message"] == "revealed"
    name = f"prefect.worker.hospital.{worker.get_name_slug()}"
    for event in ("started", "stopped"):
        query = {
            "event": {"name": [f"prefect.worker.{event}"]},
            "resource": {"id": [name]},
        }
        assert await _arrived(north, query), event
    # Of what it tries, it does without Prefect's channel for workers.
    logged = [r.getMessage() for r in caplog.records if r.levelname in {"WARNING", "ERROR"}]
    assert logged == ["gateway refused: hospital=- socket=/work_pools/… rule=call status=403"]
