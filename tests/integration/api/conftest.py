"""The API on a real PostgreSQL, with a Prefect server made of a dictionary."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from sqlalchemy import Engine, text

from api.app import create_app
from api.auth.passwords import Passwords, secret_digest
from api.settings import ApiSettings
from db.blobs import BlobStore
from db.errors import NotFound
from db.models import utc_now
from db.queries import credentials, hospitals, rounds, trainings, users
from db.queries.messages import post_message
from db.session import transaction
from db.settings import ArtifactSettings, DatabaseSettings
from privacy.settings import PrivacySettings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


MODEL = {
    "name": "breast-cancer",
    "architecture": {"kind": "mlp", "hidden": [4]},
    "contract": {
        "columns": [{"name": "radius", "minimum": 0, "maximum": 30}],
        "label": {"name": "malignant"},
    },
}


@dataclass
class Api:
    """The running app, its client and what a test needs beside it."""

    app: FastAPI
    client: httpx.AsyncClient
    settings: ApiSettings
    engine: Engine
    blobs: BlobStore
    prefect: Any
    hospital_keys: Callable[[str], Any]
    model: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(MODEL)))

    @property
    def services(self) -> Any:
        return self.app.state.services

    def token(self, *scopes: str, hospital: str | None = None, user: str = "test") -> str:
        """A token as the token endpoint gives it, without signing in; adds what it stands on."""
        if hospital is None:
            return self.services.tokens.issue(
                subject=f"user:{user}", scopes=frozenset(scopes), generation=self._generation(user)
            )
        return self.services.tokens.issue(
            subject=f"hospital:{hospital}",
            scopes=frozenset(scopes or ("exchange",)),
            generation=self._generation_of_client(hospital),
            hospital_id=hospital,
            client_id=hospital,
        )

    def _generation(self, username: str) -> int:
        with transaction(self.engine) as session:
            try:
                return users.get_user(session, username).generation
            except NotFound:
                return users.add_user(
                    session, username=username, password_hash="none", role="operator"
                ).generation

    def _generation_of_client(self, hospital_id: str) -> int:
        with transaction(self.engine) as session:
            with suppress(NotFound):
                return credentials.get_client(session, hospital_id).generation
            with suppress(NotFound):  # nor is there such a hospital
                credentials.add_client(
                    session,
                    client_id=hospital_id,
                    secret_digest="0" * 64,
                    hospital_id=hospital_id,
                )
            return 1

    def may(self, *scopes: str, hospital: str | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(*scopes, hospital=hospital)}"}

    async def invite(self, name: str, **options: Any) -> httpx.Response:
        return await self.client.post(
            "/hospitals", json={"name": name, **options}, headers=self.may("hospitals:write")
        )

    async def join(self, code: str, keys: Any, **changes: Any) -> httpx.Response:
        body = keys.join_request(code) | changes
        return await self.client.post("/hospitals/join", json=body)

    async def add_hospital(self, hospital_id: str, *, with_keys: bool = True) -> dict[str, Any]:
        """Adds a hospital that has joined; without keys, one of before there were join codes."""
        keys = self.hospital_keys(hospital_id)
        if with_keys:
            invited = await self.invite(hospital_id.title(), hospital_id=hospital_id)
            assert invited.status_code == 201, invited.text
            joined = await self.join(invited.json()["join_code"], keys)
            assert joined.status_code == 200, joined.text
        else:
            with transaction(self.engine) as session:
                hospitals.add_hospital(session, hospital_id=hospital_id, name=hospital_id.title())
                credentials.add_client(
                    session,
                    client_id=hospital_id,
                    secret_digest=secret_digest(keys.secret),
                    hospital_id=hospital_id,
                )
        return {"client_id": hospital_id, "client_secret": keys.secret}

    async def add_model(self) -> dict[str, Any]:
        added = await self.client.post("/models", json=self.model, headers=self.may("models:write"))
        assert added.status_code == 201, added.text
        return added.json()

    async def start_training(self, **changes: Any) -> httpx.Response:
        body = {"model": "breast-cancer", "rounds": 2, **changes}
        return await self.client.post(
            "/training/start", json=body, headers=self.may("training:start")
        )

    async def open_round(
        self, *hospitals: str, weights: bytes = b"the weights", training: UUID | None = None
    ) -> UUID:
        """Opens the next round of a training for the hospitals, which are added when missing."""
        known = {h["hospital_id"] for h in await self.get("/hospitals", "training:read")}
        for hospital_id in hospitals:
            if hospital_id not in known:
                await self.add_hospital(hospital_id)
        if training is None:
            names = {m["name"] for m in await self.get("/models", "training:read")}
            if not names:
                await self.add_model()
            started = await self.start_training(privacy={"noise_multiplier": 5.0})
            assert started.status_code == 202, started.text
            training = UUID(started.json()["training_id"])
        digest = self.blobs.put(weights)
        with transaction(self.engine) as session:
            trainings.start_training(
                session, training_id=training, weights=digest, mlflow_run_id="run"
            )
            opened = rounds.open_round(
                session,
                training_id=training,
                kind="training",
                incoming_weights=digest,
                flow_run_id=None,
                now=utc_now(),
            )
        return opened.id

    def post(self, round_id: UUID, hospital_id: str, kind: Any, body: bytes) -> None:
        """Posts a message as the coordinator does."""
        digest = self.blobs.put(body)
        with transaction(self.engine) as session:
            post_message(
                session,
                round_id=round_id,
                hospital_id=hospital_id,
                kind=kind,
                digest=digest,
                size_bytes=len(body),
            )

    def close(self, round_id: UUID, **how: Any) -> None:
        with transaction(self.engine) as session:
            rounds.close_round(session, round_id=round_id, now=utc_now(), **how)

    async def get(self, path: str, *scopes: str) -> Any:
        answer = await self.client.get(path, headers=self.may(*scopes))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def contents(self) -> dict[str, Any]:
        """What the database holds, to see that a refused request has changed nothing."""
        tables = (
            *("hospitals", "users", "clients", "join_codes", "models", "trainings", "rounds"),
            *("participations", "messages", "audit_events"),
        )
        with self.engine.connect() as connection:
            return {
                table: connection.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2")).all()  # noqa: S608
                for table in tables
            }

    def stored_blobs(self) -> set[str]:
        root = Path(self.settings.artifact_store.artifacts)
        return {path.name for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> ApiSettings:
    return ApiSettings(
        database=DatabaseSettings(database_url=database_url),
        artifact_store=ArtifactSettings(artifacts=str(tmp_path / "blobs")),
        privacy=PrivacySettings(),
        secrets=tmp_path / "secrets",
        max_upload_bytes=100_000,
        max_message_bytes=10_000,
    )


@pytest.fixture
def running(
    settings: ApiSettings, engine: Engine, blobs: BlobStore, fake_prefect: Any, keys_made_by: Any
) -> Callable[[], AbstractAsyncContextManager[Api]]:
    """Runs the app until the block ends."""

    @asynccontextmanager
    async def run() -> AsyncIterator[Api]:
        app = create_app(settings, prefect_transport=httpx.MockTransport(fake_prefect))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app, raise_app_exceptions=False),
                base_url="http://testserver",
            ) as client,
        ):
            started = Api(app, client, settings, engine, blobs, fake_prefect, keys_made_by)
            started.token()  # its user is there before a test looks at what the database holds
            yield started

    return run


@pytest.fixture
def blocking_api(running: Any) -> Iterator[tuple[Api, BlockingPortal]]:
    """The running app for a test that is not async, and the way into its event loop."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running()) as started,
    ):
        yield started, portal


@pytest.fixture
async def api(running: Any) -> AsyncIterator[Api]:
    async with running() as started:
        yield started


@pytest.fixture
def add_user(engine: Engine) -> Any:
    def add(username: str, password: str, role: Any) -> None:
        with transaction(engine) as session:
            users.add_user(
                session,
                username=username,
                password_hash=Passwords().hash(password),
                role=role,
            )

    return add
