"""The question for work: held open until a dispatch says that asking is worth it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import anyio.to_thread
import httpx
import pytest

from db.notify import STANDING, notify
from db.session import transaction

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@dataclass
class Held:
    """A dispatch that holds every question until it is told otherwise."""

    release: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    pools: list[str] = field(default_factory=list)
    found: list[tuple[str, bool]] = field(default_factory=list)

    async def await_work(self, pool: str, *, deadline: float) -> bool:
        self.pools.append(pool)
        self.asked.set()
        try:
            async with asyncio.timeout_at(deadline):
                await self.release.wait()
            return True
        except TimeoutError:
            return False
        finally:
            self.ended.set()

    def looked(self, pool: str, *, found: bool) -> None:
        self.found.append((pool, found))


def hold(gateway: Any, *, dispatch_wait_s: float = 30.0) -> Held:
    held = Held()
    services = gateway.services
    gateway.app.state.services = replace(
        services,
        gateway=replace(services.gateway, dispatch=held),
        settings=services.settings.model_copy(update={"dispatch_wait_s": dispatch_wait_s}),
    )
    return held


async def test_the_answer_comes_when_there_is_work(gateway: Any, north: Any) -> None:
    held = hold(gateway)
    question = asyncio.create_task(north.work())
    await held.asked.wait()
    assert not question.done()
    held.release.set()
    assert north.run_id in [item["flow_run"]["id"] for item in await question]
    assert held.pools == [north.pool]
    assert held.found == [(north.pool, True)]


async def test_nothing_in_time_is_an_empty_answer(gateway: Any, north: Any) -> None:
    held = hold(gateway, dispatch_wait_s=0.2)
    started = time.monotonic()
    assert await north.work() == []
    assert 0.2 <= time.monotonic() - started < 10
    assert held.found == []


async def test_a_question_that_gets_no_turn_in_time_is_an_empty_answer(
    gateway: Any, north: Any
) -> None:
    held = hold(gateway, dispatch_wait_s=0.2)
    held.release.set()
    for _ in range(8):
        await gateway.services.gateway.askings.acquire()
    assert await north.work() == []
    assert held.found == []
    gateway.services.gateway.askings.release()
    assert north.run_id in [item["flow_run"]["id"] for item in await north.work()]


async def test_another_standing_ends_the_wait_without_work(gateway: Any, north: Any) -> None:
    held = hold(gateway)
    question = asyncio.create_task(north.work())
    await held.asked.wait()
    with transaction(gateway.services.engine) as session:
        notify(session, round_id=None, hospital_id="north", kind=STANDING)
    assert await question == []
    assert held.found == []


async def test_a_hospital_that_hangs_up_is_waited_for_no_longer(gateway: Any, north: Any) -> None:
    held = hold(gateway)
    with pytest.raises(httpx.ReadTimeout):
        await north.client.post(
            f"/work_pools/{north.pool}/get_scheduled_flow_runs", json={}, timeout=0.5
        )
    async with asyncio.timeout(10):
        await held.ended.wait()
    assert held.found == []


async def test_a_foreign_pool_is_not_waited_for(gateway: Any, north: Any, south: Any) -> None:
    held = hold(gateway)
    path = f"/work_pools/{south.pool}/get_scheduled_flow_runs"
    assert (await north.client.post(path, json={})).status_code == 403
    assert held.pools == []


async def test_no_other_spelling_gets_around_a_rule(gateway: Any, north: Any, south: Any) -> None:
    run_id = south.run_id
    spellings = [
        f"/work_pools/{north.pool}/../{south.pool}",
        f"/work_pools/{north.pool}%2F..%2F{south.pool}",
        f"/work_pools/%2e%2e/work_pools/{south.pool}",
        f"/work_pools/{north.pool}/./get_scheduled_flow_runs",
        f"/flow_runs/{UUID(run_id).hex}",
        f"/flow_runs/{run_id.upper()}",
        f"/flow_runs/{north.run_id.upper()}",
        f"/flow_runs/{run_id}%00",
        f"/flow_runs/{run_id}/",
        f"/flow_runs/{north.run_id}%2f..%2f{run_id}",
        "//health",
        "/./health",
        "/%68ealth",
        "/health/",
        "/admin/version/../settings",
        "/admin%2fsettings",
        "/..;/health",
    ]
    where = urlsplit(gateway.url)

    def ask(path: str) -> int:
        # Straight to the socket: a client would tidy the path up.
        connection = HTTPConnection(where.hostname or "", where.port)
        connection.request("GET", path, headers={"Authorization": f"Bearer {north.token}"})
        status = connection.getresponse().status
        connection.close()
        return status

    for path in spellings:
        assert await anyio.to_thread.run_sync(ask, where.path + path) == 403, path
    for path in ("/prefect%2Fapi/health", "/prefect/%61pi/health"):
        assert await anyio.to_thread.run_sync(ask, path) == 403, path
    for path in ("/prefect//api/health", "/Prefect/api/health"):
        assert await anyio.to_thread.run_sync(ask, path) == 404, path
