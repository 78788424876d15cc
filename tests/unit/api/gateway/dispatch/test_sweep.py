"""What no event tells of: runs that become due, and those of a time without a subscription."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.gateway.dispatch import GATHERING_S, SWEEP_ALONE_S, SWEEP_S

pytestmark = pytest.mark.anyio
POOL = "hospital-charite"


async def test_a_run_scheduled_for_later_is_asked_for_when_it_is_due(gateway: Any) -> None:
    await gateway.settle()
    began = gateway.clock
    gateway.prefect.schedule(in_s=17.3)
    assert await gateway.wait()
    assert gateway.clock - began == pytest.approx(17.3)


async def test_a_run_announced_for_later_is_asked_for_when_it_is_due(gateway: Any) -> None:
    await gateway.settle()
    began = gateway.clock
    gateway.prefect.schedule(in_s=3)
    gateway.prefect.announce()
    while await gateway.wait() and gateway.clock - began < 3:
        gateway.dispatch.looked(POOL, found=False)
    assert gateway.clock - began == pytest.approx(3, abs=2 * GATHERING_S)


async def test_one_query_sweeps_for_all_who_wait_and_none_when_nobody_does(gateway: Any) -> None:
    pools = {f"hospital-{number}" for number in range(20)}
    for pool in pools:
        await gateway.settle(pool)
    assert not any(await asyncio.gather(*(gateway.wait(pool) for pool in pools)))
    assert 50 / SWEEP_S - 1 <= len(gateway.prefect.queries) <= 50 / SWEEP_S + 1
    assert all(asked == pools for asked in gateway.prefect.queries)
    asked = len(gateway.prefect.queries)
    await asyncio.sleep(60)
    assert len(gateway.prefect.queries) == asked


async def test_a_cancelled_poll_is_not_swept_for(gateway: Any) -> None:
    await gateway.settle()
    poll = asyncio.create_task(gateway.wait())
    await asyncio.sleep(1)
    poll.cancel()
    await asyncio.sleep(60)
    assert gateway.prefect.queries == []


async def test_a_thousand_first_polls_cost_a_few_queries_and_ask_only_for_who_has_work(
    gateway: Any,
) -> None:
    pools = [f"hospital-{number}" for number in range(1000)]
    gateway.prefect.schedule(pools[17])
    gateway.prefect.schedule(pools[400])
    polls = [gateway.wait(pool, seconds=SWEEP_S / 2) for pool in pools]
    asking = await asyncio.gather(*polls)
    assert [pool for pool, asks in zip(pools, asking, strict=True) if asks] == [
        pools[17],
        pools[400],
    ]
    assert len(gateway.prefect.queries) <= 2


async def test_after_a_lost_subscription_who_waits_is_swept_for_and_others_at_their_next_poll(
    gateway: Any,
) -> None:
    await gateway.settle()
    await gateway.settle("hospital-north")
    poll = asyncio.create_task(gateway.wait())
    await asyncio.sleep(0.1)
    gateway.prefect.schedule()
    began = gateway.clock
    gateway.prefect.lose()
    assert await poll
    assert gateway.clock - began <= SWEEP_ALONE_S
    await asyncio.sleep(1)
    assert gateway.prefect.opened == 2
    gateway.prefect.schedule("hospital-north")
    assert await gateway.wait("hospital-north", seconds=2 * GATHERING_S)


async def test_without_a_subscription_the_sweep_finds_runs_within_a_second(gateway: Any) -> None:
    gateway.prefect.sends_events = False
    gateway.prefect.lose()
    await gateway.settle()
    poll = asyncio.create_task(gateway.wait())
    await asyncio.sleep(9.5)
    assert gateway.prefect.opened == 1
    gateway.prefect.schedule()
    began = gateway.clock
    assert await poll
    assert gateway.clock - began <= SWEEP_ALONE_S


async def test_polls_end_in_time_while_prefect_is_away_and_wake_when_it_is_back(
    gateway: Any,
) -> None:
    gateway.prefect.is_away = True
    gateway.prefect.lose()
    await gateway.settle()
    began = gateway.clock
    assert not await gateway.wait()
    assert gateway.clock - began == pytest.approx(50)
    poll = asyncio.create_task(gateway.wait())
    await asyncio.sleep(1)
    gateway.prefect.is_away = False
    gateway.prefect.schedule()
    began = gateway.clock
    assert await poll
    assert gateway.clock - began <= 5
