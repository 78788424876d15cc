"""The calls to Prefect against a real Prefect server on a real PostgreSQL."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import tenacity

from api.prefect_api import NO_VARIABLES, PrefectApi, PrefectRefused
from db.embedded import EmbeddedServer, ensure_databases
from fl.invitation import RosterEntry, RoundInvitation
from fl.spec import ModelSpec
from privacy.plan import PrivacyPlan

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

MODEL = ModelSpec.model_validate(
    {
        "name": "breast-cancer",
        "architecture": {"kind": "mlp", "hidden": [4]},
        "contract": {
            "columns": [{"name": "radius", "minimum": 0, "maximum": 30}],
            "label": {"name": "malignant"},
        },
    }
)
INVITATION = RoundInvitation(
    round_id=uuid4(),
    training_id=uuid4(),
    number=1,
    kind="training",
    model=MODEL,
    weights="0" * 64,
    plan=PrivacyPlan(
        clip_norm=1,
        noise_multiplier=1,
        sampling_rate=0.2,
        expected_batch_size=32,
        evaluation_noise_multiplier=4.0,
        steps_per_round=5,
        rounds=2,
        delta=1e-5,
    ),
    train_config={"proximal-mu": 0.1},
    roster=tuple(
        RosterEntry(hospital_id=f"h{n}", index=n, signing_key="a" * 64, sealing_key="b" * 64)
        for n in (1, 2, 3)
    ),
    deadline_s=60,
).model_dump(mode="json")


@pytest.fixture(scope="module")
def prefect_url(
    postgres: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A Prefect server of this module."""
    ensure_databases(postgres, ("prefect_api_test",))
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PREFECT_API_DATABASE_CONNECTION_URL": postgres.asyncpg_url("prefect_api_test"),
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_UI_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start"]
    log = home / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, to end its children with it
        )
    url = f"http://127.0.0.1:{port}/api"
    try:
        _await_health(url, process, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await_health(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def ask() -> bool:
        assert process.poll() is None, log.read_text()
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200

    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(httpx.TransportError)
        | tenacity.retry_if_result(lambda healthy: not healthy),
        wait=tenacity.wait_fixed(0.2),
        stop=tenacity.stop_after_delay(120),
    )(ask)


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
    prefect: PrefectApi, server: httpx.AsyncClient
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
        json={"parameters": {"invitation": INVITATION}, "job_variables": {"command": "id"}},
    )
    assert commanded.status_code == 422


async def test_a_run_is_created_once(prefect: PrefectApi, server: httpx.AsyncClient) -> None:
    await prefect.ensure_hospital_pool("north")
    first = await run(prefect, "north", "once", invitation=INVITATION)
    assert await run(prefect, "north", "once", invitation=INVITATION) == first
    assert await run(prefect, "north", "twice", invitation=INVITATION) != first
    created = (await server.get(f"/flow_runs/{first}")).json()
    assert created["state"]["type"] == "SCHEDULED"
    assert created["work_pool_name"] == "hospital-north"
    assert RoundInvitation.model_validate(created["parameters"]["invitation"])


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"invitation": {**INVITATION, "number": 0}},
        {"invitation": {**INVITATION, "command": "id"}},
        {"invitation": {**INVITATION, "roster": INVITATION["roster"][:2]}},
    ],
)
async def test_an_invitation_of_the_wrong_shape_is_refused(
    prefect: PrefectApi, parameters: dict[str, Any]
) -> None:
    await prefect.ensure_hospital_pool("north")
    with pytest.raises(PrefectRefused, match="409"):
        await run(prefect, "north", str(uuid4()), **parameters)


async def test_a_deployment_that_is_not_there(prefect: PrefectApi) -> None:
    with pytest.raises(PrefectRefused, match="404"):
        await run(prefect, "nobody", "once")
