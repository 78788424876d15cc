"""The calls to Prefect against a real Prefect server on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api.prefect_api import NO_VARIABLES, PrefectApi, PrefectRefused
from fl.invitation import RoundInvitation

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture(scope="module")
def prefect_url(start_prefect: Any) -> Iterator[str]:
    """A Prefect server of this module."""
    with start_prefect("prefect_api_test") as started:
        yield started.url


@pytest.fixture
async def server(prefect_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=prefect_url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def prefect(prefect_url: str, server: httpx.AsyncClient) -> PrefectApi:
    return PrefectApi(prefect_url, server)


async def run(prefect: PrefectApi, hospital_id: str, key: str, **parameters: Any) -> UUID:
    return await prefect.create_flow_run(
        deployment=f"hospital-round/{hospital_id}",
        name=key,
        parameters=parameters,
        idempotency_key=key,
    )


async def test_a_hospital_s_pool_and_deployment(
    prefect: PrefectApi, server: httpx.AsyncClient, round_invitation: Any
) -> None:
    await prefect.ensure_hospital_pool("charite")
    await prefect.ensure_hospital_pool("charite")
    pool = (await server.get("/work_pools/hospital-charite")).json()
    assert pool["type"] == "hospital"
    assert pool["base_job_template"] == NO_VARIABLES
    deployment = (await server.get("/deployments/name/hospital-round/charite")).json()
    assert deployment["work_pool_name"] == "hospital-charite"
    assert deployment["enforce_parameter_schema"] is True
    assert not deployment["pull_steps"]

    commanded = await server.post(
        f"/deployments/{deployment['id']}/create_flow_run",
        json={"parameters": {"invitation": round_invitation}, "job_variables": {"command": "id"}},
    )
    assert commanded.status_code == 422


async def test_a_run_is_created_once(
    prefect: PrefectApi, server: httpx.AsyncClient, round_invitation: Any
) -> None:
    await prefect.ensure_hospital_pool("north")
    first = await run(prefect, "north", "once", invitation=round_invitation)
    assert await run(prefect, "north", "once", invitation=round_invitation) == first
    assert await run(prefect, "north", "twice", invitation=round_invitation) != first
    created = (await server.get(f"/flow_runs/{first}")).json()
    assert created["state"]["type"] == "SCHEDULED"
    assert created["work_pool_name"] == "hospital-north"
    assert RoundInvitation.model_validate(created["parameters"]["invitation"])


@pytest.mark.parametrize(
    "parameters_of",
    [
        lambda _: {},
        lambda good: {"invitation": {**good, "number": 0}},
        lambda good: {"invitation": {**good, "command": "id"}},
        lambda good: {"invitation": {**good, "roster": good["roster"][:2]}},
    ],
)
async def test_an_invitation_of_the_wrong_shape_is_refused(
    prefect: PrefectApi,
    round_invitation: Any,
    parameters_of: Callable[[Any], dict[str, Any]],
) -> None:
    await prefect.ensure_hospital_pool("north")
    with pytest.raises(PrefectRefused, match="409"):
        await run(prefect, "north", str(uuid4()), **parameters_of(round_invitation))


async def test_a_deployment_that_is_not_there(prefect: PrefectApi) -> None:
    with pytest.raises(PrefectRefused, match="404"):
        await run(prefect, "nobody", "once")
