"""When a pool is asked for: marks, waits and what ends them."""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import Any

import pytest

from api.gateway.dispatch import AGAIN_S, GATHERING_S, SETTLING_S
from db.notify import STANDING, Notice

pytestmark = pytest.mark.anyio
POOL = "hospital-charite"


async def test_a_pool_without_work_waits_from_its_first_poll_on_and_never_asks(
    gateway: Any,
) -> None:
    for _ in range(2):
        began = gateway.clock
        assert not await gateway.wait()
        assert gateway.clock - began == pytest.approx(50)


async def test_what_was_there_before_a_pool_s_first_poll_is_asked_for(gateway: Any) -> None:
    gateway.prefect.schedule()
    gateway.prefect.announce()
    await asyncio.sleep(100)
    began = gateway.clock
    assert await gateway.wait()
    assert gateway.clock - began <= 2 * GATHERING_S


async def test_an_announced_run_wakes_every_poll_of_its_pool_and_no_other(gateway: Any) -> None:
    await gateway.settle()
    await gateway.settle("hospital-north")
    polls = [asyncio.create_task(gateway.wait()) for _ in range(2)]
    other = asyncio.create_task(gateway.wait("hospital-north"))
    await asyncio.sleep(7)
    began = gateway.clock
    gateway.prefect.announce()
    assert await asyncio.gather(*polls) == [True, True]
    assert gateway.clock == began
    assert not await other


async def test_a_run_announced_between_two_polls_is_asked_for_by_the_next(gateway: Any) -> None:
    await gateway.settle()
    gateway.prefect.announce()
    await asyncio.sleep(3)
    began = gateway.clock
    assert await gateway.wait()
    assert gateway.clock == began


async def test_a_run_announced_while_prefect_is_asked_is_asked_for_at_once(gateway: Any) -> None:
    await gateway.settle()
    gateway.prefect.announce()
    assert await gateway.wait()
    gateway.prefect.announce()
    await asyncio.sleep(0.001)
    began = gateway.clock
    gateway.dispatch.looked(POOL, found=False)
    assert await gateway.wait()
    assert gateway.clock == began


async def test_a_run_announced_before_it_is_committed_is_asked_for_again_soon(gateway: Any) -> None:
    await gateway.settle()
    gateway.prefect.announce()
    began = gateway.clock
    asked: list[float] = []
    while await gateway.wait(seconds=20):
        asked.append(gateway.clock - began)
        gateway.dispatch.looked(POOL, found=False)
    sums = [sum(SETTLING_S[:count]) for count in range(len(SETTLING_S) + 1)]
    assert asked == pytest.approx(sums)


async def test_runs_that_a_busy_worker_leaves_are_told_ever_more_slowly(gateway: Any) -> None:
    await gateway.settle()
    gateway.prefect.announce()
    asked: list[float] = []
    while len(asked) < 6:
        assert await gateway.wait()
        asked.append(gateway.clock)
        gateway.dispatch.looked(POOL, found=True)
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert pauses == pytest.approx([*AGAIN_S, AGAIN_S[-1]])
    gateway.prefect.announce()
    await asyncio.sleep(0.001)
    began = gateway.clock
    assert await gateway.wait()
    assert gateway.clock == began


async def test_an_asking_that_prefect_did_not_answer_is_repeated(gateway: Any) -> None:
    await gateway.settle()
    gateway.prefect.announce()
    assert await gateway.wait()
    assert await gateway.wait(seconds=0)


async def test_the_end_of_the_api_ends_the_waits(gateway: Any) -> None:
    await gateway.settle()
    poll = asyncio.create_task(gateway.wait())
    await asyncio.sleep(1)
    began = gateway.clock
    gateway.hub.end_waits()
    assert not await poll
    assert not await gateway.wait()
    assert gateway.clock == began


@pytest.mark.parametrize(("hospital_id", "pool"), [("charite", POOL), ("hospital-1", "hospital-1")])
async def test_a_change_of_the_hospital_s_standing_ends_its_wait(
    gateway: Any, hospital_id: str, pool: str
) -> None:
    await gateway.settle(pool)
    poll = asyncio.create_task(gateway.dispatch.await_work(pool, deadline=math.inf))
    await asyncio.sleep(1)
    gateway.database.put(Notice(round_id=None, hospital_id=hospital_id, kind=STANDING))
    assert not await poll
