"""A hospital's question for work, held open until a real Prefect server has some."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from api.gateway.scheduled import ScheduledRuns
from api.prefect_api import PrefectRefused, PrefectUnavailable
from db.notify import STANDING, notify
from db.session import transaction

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


def clock() -> float:
    return asyncio.get_running_loop().time()


async def question(hospital: Any) -> list[dict[str, Any]]:
    asked = await hospital.client.post(
        f"/work_pools/{hospital.pool}/get_scheduled_flow_runs",
        # As the worker does: until the moment of its asking, which the wait leaves behind.
        json={"scheduled_before": datetime.now(UTC).isoformat()},
        timeout=60,
    )
    assert asked.status_code == 200, asked.text
    found: list[dict[str, Any]] = asked.json()
    return found


async def waiting(gateway: Any, hospital: Any) -> asyncio.Task[list[dict[str, Any]]]:
    """A question that waits: the runs that were there have been taken."""
    for item in await question(hospital):
        assert (await hospital.go(item["flow_run"]["id"], "PENDING")).is_success
    task = asyncio.create_task(question(hospital))
    while not gateway.services.hub.waiting:
        await asyncio.sleep(0.01)
    return task


async def test_a_run_that_is_created_is_in_the_hospital_s_hands_at_once(
    gateway: Any, north: Any
) -> None:
    poll = await waiting(gateway, north)
    began = clock()
    run_id = await north.new_run()
    assert [item["flow_run"]["id"] for item in await poll] == [run_id]
    assert clock() - began < 2


async def test_a_run_for_later_comes_when_it_is_due(gateway: Any, north: Any) -> None:
    poll = await waiting(gateway, north)
    run = (await north.server.get(f"/flow_runs/{north.run_id}")).json()
    due = datetime.now(UTC) + timedelta(seconds=2)
    created = await north.server.post(
        f"/deployments/{north.deployment['id']}/create_flow_run",
        json={
            "parameters": run["parameters"],
            "state": {
                "type": "SCHEDULED",
                "state_details": {"scheduled_time": due.isoformat()},
            },
        },
    )
    assert [item["flow_run"]["id"] for item in await poll] == [created.json()["id"]]
    assert timedelta() <= datetime.now(UTC) - due < timedelta(seconds=6)


async def test_another_hospital_s_run_wakes_nobody(gateway: Any, north: Any, south: Any) -> None:
    poll = await waiting(gateway, north)
    other = await waiting(gateway, south)
    run_id = await south.new_run()
    assert [item["flow_run"]["id"] for item in await other] == [run_id]
    assert not poll.done()
    poll.cancel()


async def test_a_change_of_standing_ends_the_wait(gateway: Any, north: Any, engine: Engine) -> None:
    poll = await waiting(gateway, north)
    began = clock()
    with transaction(engine) as session:
        notify(session, round_id=None, hospital_id="north", kind=STANDING)
    assert await poll == []
    assert clock() - began < 10


async def test_a_wrong_secret_opens_no_subscription(
    gateway: Any, prefect_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with httpx.AsyncClient() as client:
        upstream = ScheduledRuns(prefect_server.url, client, SecretStr("gateway:wrong-secret"))
        with pytest.raises((PrefectRefused, PrefectUnavailable)):
            async with upstream.events():
                pass
    assert "wrong-secret" not in caplog.text
