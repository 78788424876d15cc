"""The query for the runs of all pools that wait."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import httpx
import pytest

from api.gateway.scheduled import PAGE, ScheduledRuns

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakePrefect:
    """Runs by pool; answers a query as Prefect does, with one page."""

    def __init__(self, **runs: int) -> None:
        self.pools = [pool for pool, count in runs.items() for _ in range(count)]
        self.asked: list[dict[str, object]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.asked.append(body["work_pools"])
        names = body["work_pools"].get("name", {"any_": self.pools})["any_"]
        found = [pool for pool in self.pools if pool in names][: body["limit"]]
        return httpx.Response(
            200,
            json=[
                {"work_pool_name": pool, "next_scheduled_start_time": NOW.isoformat()}
                for pool in found
            ],
        )

    async def due(self, *pools: str) -> list[str]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self)) as client:
            runs = await ScheduledRuns("http://prefect/api", client).due(pools, before=NOW)
            return [run.pool for run in runs]


async def test_one_query_without_names_is_for_all_and_brings_no_other_pool_s_runs() -> None:
    prefect = FakePrefect(north=2, south=1, west=1)
    assert await prefect.due("north", "west", "east") == ["north", "north", "west"]
    assert prefect.asked == [{"type": {"any_": ["hospital"]}}]


async def test_a_page_full_of_other_runs_hides_nobody_s() -> None:
    prefect = FakePrefect(gone=2 * PAGE, north=PAGE, south=1)
    assert set(await prefect.due("north", "south", "east")) == {"north", "south"}
    assert prefect.asked[1:] == [
        {"name": {"any_": ["east", "north", "south"]}},
        {"name": {"any_": ["east", "south"]}},
    ]
