"""The app: its parts, its routes and its start and end.

    uvicorn --factory api.app:app_from_environment

The API triggers and reads: it starts flow runs in Prefect, keeps the exchange's mailbox and reads
the database. It trains nothing and sums nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import Final

import anyio
import httpx
from anyio import to_thread
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from sqlalchemy.engine import Engine

from api.auth.bootstrap import ensure_operator, load_signing_key
from api.auth.passwords import Passwords
from api.auth.tokens import SigningKey, Tokens
from api.bodies import BodyLimit
from api.errors import install_error_map, problem_schema
from api.hub import Hub
from api.prefect_api import PrefectApi
from api.routes import (
    audit,
    exchange,
    health,
    hospitals,
    joining,
    metrics,
    models,
    oauth,
    trainings,
)
from api.services import Services
from api.settings import ApiSettings
from db.blobs import BlobStore
from db.notify import Listener
from db.session import connect

_PASSWORDS_AT_A_TIME: Final = 2
_PREFECT_TIMEOUT: Final = httpx.Timeout(30.0, connect=3.0)
_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_TAGS: Final = (
    ("sign-in", "Access tokens by OAuth 2.0."),
    ("hospitals", "The data-owning institutions."),
    ("models", "Architectures with their data contracts, by name and version."),
    ("trainings", "Series of rounds under one privacy plan."),
    ("metrics", "What the rounds measured."),
    ("audit", "Who did what: append-only, hash-chained."),
    ("exchange", "The mailbox of a round, for hospitals."),
    ("health", "Whether the API serves."),
)


def create_app(
    settings: ApiSettings,
    *,
    prefect_transport: httpx.AsyncBaseTransport | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FastAPI:
    """Makes the app; nothing is opened before it starts.

    Args:
        settings: where its servers are and what it allows.
        prefect_transport: carries the calls to Prefect; HTTP unless given.
        now: the clock, in UTC.

    Raises:
        pydantic.ValidationError: the privacy defaults contradict each other.
    """
    settings.privacy.request()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings, prefect_transport, now) as services:
            app.state.services = services
            with ending_waits_at_signals(services.hub):
                yield

    # The documentation pages come with the package: a coordinator may have no way to a CDN.
    app = FastAPIOffline(
        title="fedmed",
        summary="Hospitals train diagnostic models together; no patient row leaves a hospital.",
        version="0.1.0",
        lifespan=lifespan,
        openapi_tags=[{"name": name, "description": text} for name, text in _TAGS],
        responses={"4XX": {"description": "A problem document", "content": problem_schema()}},
    )
    routes = (oauth, joining, hospitals, models, trainings, metrics, audit, exchange, health)
    for module in routes:
        app.include_router(module.router)
    install_error_map(app)
    oauth.install_oauth_errors(app)
    app.add_middleware(BodyLimit, limit_for=partial(_largest_body, settings))
    return app


def app_from_environment() -> FastAPI:
    """Makes the app with settings from the environment, for ``uvicorn --factory``."""
    return create_app(ApiSettings())


@asynccontextmanager
async def open_services(
    settings: ApiSettings,
    prefect_transport: httpx.AsyncBaseTransport | None,
    now: Callable[[], datetime],
) -> AsyncIterator[Services]:
    """Opens what the routes work with, and makes the secrets of a first start."""
    engine = connect(settings.database)
    try:
        passwords = Passwords()
        signing_key = await to_thread.run_sync(_first_start, settings, engine, passwords)
        async with (
            httpx.AsyncClient(
                transport=prefect_transport,
                auth=prefect_auth(settings),
                timeout=_PREFECT_TIMEOUT,
                trust_env=False,
            ) as client,
            Hub(partial(Listener, engine)) as hub,
        ):
            yield Services(
                settings=settings,
                engine=engine,
                blobs=BlobStore(settings.artifact_store.artifacts),
                hub=hub,
                prefect=PrefectApi(settings.prefect_api_url, client),
                signing_key=signing_key,
                tokens=Tokens(
                    signing_key,
                    issuer=settings.token_issuer,
                    audience=settings.audience,
                    lifetime_s=settings.token_lifetime_s,
                    clock=now,
                ),
                passwords=passwords,
                password_slots=anyio.CapacityLimiter(_PASSWORDS_AT_A_TIME),
                now=now,
            )
    finally:
        engine.dispose()


@contextmanager
def ending_waits_at_signals(hub: Hub) -> Iterator[None]:
    """Ends the long polls when the process is told to end.

    The server waits for open requests before it ends the app, so that the end of the app comes too
    late to end them. The server's own handlers run as before; without any, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _ENDING_SIGNALS}
    previous = {number: handler for number, handler in handlers.items() if callable(handler)}

    def end_waits(number: int, frame: FrameType | None) -> None:
        hub.end_waits_from_signal()
        previous[signal.Signals(number)](number, frame)

    for ending in previous:
        signal.signal(ending, end_waits)
    try:
        yield
    finally:
        for ending, handler in previous.items():
            signal.signal(ending, handler)


def _first_start(settings: ApiSettings, engine: Engine, passwords: Passwords) -> SigningKey:
    signing_key = load_signing_key(settings.secrets)
    ensure_operator(engine, settings.secrets, passwords=passwords, token_url=settings.token_url)
    return signing_key


def prefect_auth(settings: ApiSettings) -> httpx.BasicAuth | None:
    """Returns the credentials that the Prefect server asks for, if it does."""
    if settings.prefect_api_auth_string is None:
        return None
    username, _, password = settings.prefect_api_auth_string.get_secret_value().partition(":")
    return httpx.BasicAuth(username, password)


def _largest_body(settings: ApiSettings, path: str) -> int:
    """The middleware's bound; the exchange checks a narrower one by kind."""
    if path.startswith("/exchange/"):
        return max(settings.max_upload_bytes, settings.max_message_bytes)
    return settings.max_body_bytes
