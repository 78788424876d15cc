"""Two hospitals, the gateway as a server, and a real Prefect server behind it with a secret."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
import uvicorn
import websockets
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Engine

from api.app import create_app
from api.auth.passwords import secret_digest
from api.prefect_api import PrefectApi
from api.serve import configuration
from api.serving import ServingSettings
from api.settings import ApiSettings
from db.queries import credentials, hospitals
from db.session import transaction

SECRET = f"gateway:{secrets.token_urlsafe(16)}"


@pytest.fixture(scope="session")
def prefect_server(start_prefect: Any) -> Iterator[Any]:
    """A Prefect server of this session that asks for a secret."""
    with start_prefect("prefect_gateway_test", secret=SECRET) as server:
        yield server


@dataclass
class Hospital:
    """A hospital with a pool, a deployment and a run that waits for it, and its own client."""

    hospital_id: str
    client: httpx.AsyncClient
    token: str
    server: httpx.AsyncClient
    prefect: PrefectApi
    secret: str
    invitation: dict[str, Any]
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
                parameters={"invitation": self.invitation},
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
async def serving(app: FastAPI, port: int) -> AsyncIterator[str]:
    """Serves the app as it is served in production, in this event loop."""
    config = configuration(ServingSettings(api_port=port), None)
    config.app, config.factory = app, False
    server = uvicorn.Server(config)
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
    settings: ApiSettings,
    engine: Engine,
    prefect_server: Any,
    free_port: Callable[[], int],
    keys_made_by: Any,
    round_invitation: dict[str, Any],
) -> AsyncIterator[Gateway]:
    settings = settings.model_copy(
        update={
            "prefect_api_url": prefect_server.url,
            "prefect_api_auth_string": SecretStr(prefect_server.secret),
        }
    )
    app = create_app(settings)
    async with (
        serving(app, free_port()) as url,
        httpx.AsyncClient(
            base_url=prefect_server.url, auth=prefect_server.auth, trust_env=False, timeout=30
        ) as server,
    ):
        both = []
        for hospital_id in ("north", "south"):
            secret = keys_made_by(hospital_id).secret
            _add(engine, hospital_id, secret)
            token = app.state.services.tokens.issue(
                subject=f"hospital:{hospital_id}",
                scopes=frozenset({"exchange"}),
                generation=1,
                hospital_id=hospital_id,
                client_id=hospital_id,
            )
            client = httpx.AsyncClient(
                base_url=f"{url}/prefect/api",
                headers={"Authorization": f"Bearer {token}"},
                trust_env=False,
                timeout=30,
            )
            prefect = PrefectApi(prefect_server.url, server)
            invitation = {**round_invitation, "round_id": str(uuid4())}
            hospital = Hospital(hospital_id, client, token, server, prefect, secret, invitation)
            await hospital.set_up()
            both.append(hospital)
        try:
            yield Gateway(app, f"{url}/prefect/api", both[0], both[1], server)
        finally:
            for hospital in both:
                await hospital.client.aclose()


def _add(engine: Engine, hospital_id: str, secret: str) -> None:
    with transaction(engine) as session:
        hospitals.add_hospital(session, hospital_id=hospital_id, name=hospital_id.title())
        credentials.add_client(
            session,
            client_id=hospital_id,
            secret_digest=secret_digest(secret),
            hospital_id=hospital_id,
        )


@pytest.fixture
def north(gateway: Gateway) -> Hospital:
    return gateway.north


@pytest.fixture
def south(gateway: Gateway) -> Hospital:
    return gateway.south
