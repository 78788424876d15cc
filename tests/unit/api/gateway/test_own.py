"""What is remembered of a hospital's pool, and for how long."""

from __future__ import annotations

import httpx
import pytest

from api.gateway.own import POOL_REMEMBERED_S, OwnObjects
from api.gateway.upstream import Upstream

pytestmark = pytest.mark.anyio
POOL = "hospital-charite"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakePrefect:
    """One pool, and how often it was read."""

    def __init__(self) -> None:
        self.read = 0
        self.is_there = True
        self.clock_s = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.read += 1
        return httpx.Response(200, json={"id": "1"}) if self.is_there else httpx.Response(404)


@pytest.fixture
def prefect() -> FakePrefect:
    return FakePrefect()


@pytest.fixture
def own(prefect: FakePrefect) -> OwnObjects:
    upstream = Upstream("http://prefect/api", httpx.MockTransport(prefect))
    return OwnObjects(upstream, timer=lambda: prefect.clock_s)


async def test_a_pool_is_read_again_after_ten_minutes(
    own: OwnObjects, prefect: FakePrefect
) -> None:
    for second in range(0, int(POOL_REMEMBERED_S), 120):
        prefect.clock_s = second
        assert (await own.read_pool(POOL)).json() == {"id": "1"}
    assert prefect.read == 1
    prefect.clock_s = POOL_REMEMBERED_S
    await own.read_pool(POOL)
    assert prefect.read == 2


async def test_a_pool_that_was_not_there_is_asked_for_again(
    own: OwnObjects, prefect: FakePrefect
) -> None:
    prefect.is_there = False
    assert (await own.read_pool(POOL)).status == 404
    prefect.is_there = True
    assert (await own.read_pool(POOL)).status == 200


async def test_a_forgotten_pool_is_asked_for_with_its_id(
    own: OwnObjects, prefect: FakePrefect
) -> None:
    assert await own.pool_id(POOL) == "1"
    own.forget_pool(POOL)
    assert await own.pool_id(POOL) == "1"
    assert prefect.read == 2
