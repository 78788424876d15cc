"""Waiting at the exchange: woken at once, holding nothing, missing nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

COHORT = ("north", "south", "west")


@pytest.fixture
async def round_id(api: Any) -> UUID:
    opened: UUID = await api.open_round(*COHORT)
    return opened


async def fetch(
    api: Any, round_id: UUID, kind: str, *, hospital: str = "north", wait_s: float | str = 0
) -> Any:
    return await api.client.get(
        f"/exchange/rounds/{round_id}/{kind}",
        params={"wait_s": wait_s},
        headers=api.may(hospital=hospital),
    )


async def until_waiting(api: Any, count: int) -> None:
    async with asyncio.timeout(10):
        while api.services.hub.waiting < count:
            await asyncio.sleep(0.005)
        while api.services.engine.pool.checkedout():  # the first looks are still running
            await asyncio.sleep(0.005)


async def woken(waiting: asyncio.Task[Any]) -> tuple[Any, float]:
    started = time.monotonic()
    answer = await asyncio.wait_for(waiting, 10)
    return answer, time.monotonic() - started


async def test_a_message_wakes_its_hospital_at_once(api: Any, round_id: UUID) -> None:
    north = asyncio.create_task(fetch(api, round_id, "cohort", wait_s=20))
    south = asyncio.create_task(fetch(api, round_id, "cohort", hospital="south", wait_s=20))
    await until_waiting(api, 2)
    await asyncio.to_thread(api.post, round_id, "north", "cohort", b"for north")
    answer, latency_s = await woken(north)
    assert answer.content == b"for north"
    assert latency_s < 0.2
    assert not south.done()
    await asyncio.to_thread(api.post, round_id, "south", "cohort", b"for south")
    assert (await woken(south))[0].content == b"for south"


async def test_the_end_of_a_round_wakes_everyone(api: Any, round_id: UUID) -> None:
    polls = [
        asyncio.create_task(fetch(api, round_id, "survivors", hospital=h, wait_s=20))
        for h in COHORT
    ]
    await until_waiting(api, 3)
    await asyncio.to_thread(api.close, round_id, state="failed", reason="west was silent")
    for poll in polls:
        answer, _ = await woken(poll)
        assert answer.status_code == 410
        assert "west was silent" in answer.json()["detail"]


async def test_messages_between_looking_and_waiting_are_not_lost(api: Any, round_id: UUID) -> None:
    """Posted in a storm of polls, whatever the moment: none waits for its timeout."""
    started = time.monotonic()
    polls = [
        asyncio.create_task(fetch(api, round_id, kind, hospital=h, wait_s=20))
        for h in COHORT
        for kind in ("cohort", "survivors")
    ]
    for h in COHORT:
        for kind in ("cohort", "survivors"):
            await asyncio.to_thread(api.post, round_id, h, kind, f"{kind} of {h}".encode())
    answers = await asyncio.gather(*polls)
    assert [a.content.decode() for a in answers] == [
        f"{kind} of {h}" for h in COHORT for kind in ("cohort", "survivors")
    ]
    assert time.monotonic() - started < 10


async def timed(request: Awaitable[Any]) -> tuple[Any, float]:
    started = time.monotonic()
    answer = await request
    return answer, time.monotonic() - started


async def test_nothing_in_time_is_a_204(api: Any, round_id: UUID) -> None:
    answer, seconds = await timed(fetch(api, round_id, "cohort", wait_s=0.3))
    assert answer.status_code == 204
    assert 0.3 <= seconds < 5
    assert api.services.hub.waiting == 0


async def test_absurd_waits_are_refused(api: Any, round_id: UUID) -> None:
    for wait_s in ("-1", "nan", "inf", "soon"):
        answer = await fetch(api, round_id, "cohort", wait_s=wait_s)
        assert answer.status_code == 422, wait_s
        assert answer.json()["errors"][0]["field"] == "wait_s"


async def test_a_waiting_poll_holds_no_connection(api: Any, round_id: UUID) -> None:
    polls = [
        asyncio.create_task(fetch(api, round_id, "cohort", hospital=h, wait_s=20))
        for h in COHORT * 20
    ]
    await until_waiting(api, len(polls))
    assert api.services.hub.waiting == len(polls)
    assert (await api.client.get("/health")).status_code == 200
    for poll in polls:
        poll.cancel()
    await asyncio.gather(*polls, return_exceptions=True)
    assert api.services.hub.waiting == 0


async def test_a_lost_listener_comes_back_and_nothing_is_missed(api: Any, round_id: UUID) -> None:
    waiting = asyncio.create_task(fetch(api, round_id, "cohort", wait_s=20))
    await until_waiting(api, 1)

    def cut_and_post() -> None:
        with api.engine.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
                )
            )
        api.post(round_id, "north", "cohort", b"for north")

    await asyncio.to_thread(cut_and_post)
    answer, _ = await woken(waiting)
    assert answer.content == b"for north"
