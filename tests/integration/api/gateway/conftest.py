"""Two hospitals, the gateway as a server, and a real Prefect server behind it with a secret."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import tenacity
import uvicorn
import websockets
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Engine

from api.app import create_app
from api.prefect_api import PrefectApi
from api.settings import ApiSettings
from db.embedded import EmbeddedServer, ensure_databases
from db.queries import hospitals
from db.session import transaction
from fl.invitation import RosterEntry, RoundInvitation
from fl.spec import ModelSpec
from privacy.plan import PrivacyPlan

SECRET = f"gateway:{secrets.token_urlsafe(16)}"
DATABASE = "prefect_gateway_test"


@dataclass(frozen=True)
class PrefectServer:
    """The server as its owner sees it."""

    url: str
    secret: str

    @property
    def auth(self) -> httpx.BasicAuth:
        return httpx.BasicAuth(*self.secret.split(":"))


@pytest.fixture(scope="session")
def prefect_server(
    postgres: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrefectServer]:
    """A Prefect server of this session that asks for a secret."""
    ensure_databases(postgres, (DATABASE,))
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_API_DATABASE_CONNECTION_URL": postgres.asyncpg_url(DATABASE),
        "PREFECT_SERVER_API_AUTH_STRING": SECRET,
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
        await_health(url, process, log)
        yield PrefectServer(url, SECRET)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_health(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def ask() -> bool:
        assert process.poll() is None, log.read_text()
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200

    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(httpx.TransportError)
        | tenacity.retry_if_result(lambda healthy: not healthy),
        wait=tenacity.wait_fixed(0.2),
        stop=tenacity.stop_after_delay(120),
    )(ask)


def invitation() -> dict[str, Any]:
    """Parameters that the deployment of a hospital accepts."""
    return RoundInvitation(
        round_id=uuid4(),
        training_id=uuid4(),
        number=1,
        kind="training",
        model=ModelSpec.model_validate(
            {
                "name": "breast-cancer",
                "architecture": {"kind": "mlp", "hidden": [4]},
                "contract": {
                    "columns": [{"name": "radius", "minimum": 0, "maximum": 30}],
                    "label": {"name": "malignant"},
                },
            }
        ),
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


@dataclass
class Hospital:
    """A hospital with a pool, a deployment and a run that waits for it, and its own client."""

    hospital_id: str
    client: httpx.AsyncClient
    token: str
    server: httpx.AsyncClient
    prefect: PrefectApi
    deployment: dict[str, Any] = field(default_factory=dict)
    run_id: str = ""

    @property
    def pool(self) -> str:
        return f"hospital-{self.hospital_id}"

    async def set_up(self) -> None:
        await self.prefect.ensure_hospital_pool(self.hospital_id)
        name = f"/deployments/name/hospital-round/{self.hospital_id}"
        self.deployment = (await self.server.get(name)).json()
        self.run_id = await self.new_run()

    async def new_run(self) -> str:
        key = str(uuid4())
        return str(
            await self.prefect.create_flow_run(
                deployment=f"hospital-round/{self.hospital_id}",
                name=key,
                parameters={"invitation": invitation()},
                idempotency_key=key,
            )
        )

    async def work(self) -> list[dict[str, Any]]:
        asked = await self.client.post(f"/work_pools/{self.pool}/get_scheduled_flow_runs", json={})
        assert asked.status_code == 200, asked.text
        found: list[dict[str, Any]] = asked.json()
        return found

    async def go(self, run_id: str, state_type: str, **state: Any) -> httpx.Response:
        return await self.client.post(
            f"/flow_runs/{run_id}/set_state",
            json={"state": {"type": state_type, **state}, "force": False},
        )

    async def upstream_run(self, run_id: str | None = None) -> dict[str, Any]:
        """The run as the Prefect server's owner sees it."""
        found: dict[str, Any] = (
            await self.server.get(f"/flow_runs/{run_id or self.run_id}")
        ).json()
        return found


@dataclass
class Gateway:
    """The API as a server, and who calls it."""

    app: FastAPI
    url: str
    north: Hospital
    south: Hospital
    server: httpx.AsyncClient

    @property
    def services(self) -> Any:
        return self.app.state.services

    def socket(
        self, *, token: str | None = None, path: str = "/events/in", **options: Any
    ) -> websockets.connect:
        token = self.north.token if token is None else token
        return websockets.connect(
            self.url.replace("http", "ws") + path,
            **{
                "subprotocols": [websockets.Subprotocol("prefect")],
                "additional_headers": {"Authorization": f"Bearer {token}"},
                "proxy": None,
                **options,
            },
        )


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """Serves the app as it is served in production, in this event loop."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False)
    )
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            assert not task.done(), "the server did not start"
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def gateway(
    settings: ApiSettings, engine: Engine, prefect_server: PrefectServer
) -> AsyncIterator[Gateway]:
    settings = settings.model_copy(
        update={
            "prefect_api_url": prefect_server.url,
            "prefect_api_auth_string": SecretStr(prefect_server.secret),
        }
    )
    app = create_app(settings)
    with transaction(engine) as session:
        for hospital_id in ("north", "south"):
            hospitals.add_hospital(session, hospital_id=hospital_id, name=hospital_id.title())
    async with (
        serving(app) as url,
        httpx.AsyncClient(
            base_url=prefect_server.url, auth=prefect_server.auth, trust_env=False, timeout=30
        ) as server,
    ):
        prefect = PrefectApi(prefect_server.url, server)
        both = []
        for hospital_id in ("north", "south"):
            token = app.state.services.tokens.issue(
                subject=f"hospital:{hospital_id}",
                scopes=frozenset({"exchange"}),
                hospital_id=hospital_id,
            )
            client = httpx.AsyncClient(
                base_url=f"{url}/prefect/api",
                headers={"Authorization": f"Bearer {token}"},
                trust_env=False,
                timeout=30,
            )
            hospital = Hospital(hospital_id, client, token, server, prefect)
            await hospital.set_up()
            both.append(hospital)
        try:
            yield Gateway(app, f"{url}/prefect/api", both[0], both[1], server)
        finally:
            for hospital in both:
                await hospital.client.aclose()


@pytest.fixture
def north(gateway: Gateway) -> Hospital:
    return gateway.north


@pytest.fixture
def south(gateway: Gateway) -> Hospital:
    return gateway.south
