"""The app: its parts, its routes and its start and end.

    python -m api.serve

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

from api.auth.bootstrap import ensure_operator
from api.auth.key_ring import KeyRing, ensure_key
from api.auth.oidc import open_issuer
from api.auth.passwords import Passwords
from api.auth.standing import Standings
from api.auth.tokens import Tokens
from api.bodies import BodyLimit
from api.errors import install_error_map, problem_schema
from api.gateway import calls, serve
from api.gateway.dispatch import Dispatch
from api.gateway.gateway import Gateway
from api.gateway.own import OwnObjects
from api.gateway.scheduled import ScheduledRuns
from api.gateway.upstream import Upstream, open_transport
from api.headers import SecurityHeaders
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
    users,
)
from api.services import Services
from api.settings import ApiSettings
from db.blobs import BlobStore
from db.notify import Listener
from db.session import connect
from fl.names import GATEWAY_PATH

_PASSWORDS_AT_A_TIME: Final = 2
_PREFECT_TIMEOUT: Final = httpx.Timeout(30.0, connect=3.0)
_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_TAGS: Final = (
    ("sign-in", "Access tokens by OAuth 2.0."),
    ("users", "The people who may sign in."),
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
    people = (oauth, users, models, trainings, metrics, audit, health)
    for module in (*people, joining, hospitals, exchange):
        app.include_router(module.router)
    # First: every call of a hospital's would be compared with all other routes.
    app.router.routes[:0] = serve.routes()
    install_error_map(app)
    oauth.install_oauth_errors(app)
    app.add_middleware(BodyLimit, limit_for=partial(_largest_body, settings))
    app.add_middleware(SecurityHeaders, https=settings.api_url.startswith("https://"))
    return app


def app_from_environment() -> FastAPI:
    """Makes the app with settings from the environment, for uvicorn."""
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
        keys = await to_thread.run_sync(_first_start, settings, engine, passwords, now)
        standings = Standings(engine)
        with open_issuer(settings.oidc, clock=now) as oidc:
            async with (
                httpx.AsyncClient(
                    transport=prefect_transport,
                    auth=prefect_auth(settings),
                    timeout=_PREFECT_TIMEOUT,
                    trust_env=False,
                ) as client,
                prefect_transport or open_transport() as gateway_transport,
                Hub(partial(Listener, engine), watcher=standings) as hub,
                Dispatch(
                    ScheduledRuns(
                        settings.prefect_api_url, client, settings.prefect_api_auth_string
                    ),
                    hub,
                    now=now,
                ) as dispatch,
            ):
                yield Services(
                    settings=settings,
                    engine=engine,
                    blobs=BlobStore(settings.artifact_store.artifacts),
                    hub=hub,
                    prefect=PrefectApi(settings.prefect_api_url, client),
                    gateway=open_gateway(settings, gateway_transport, dispatch),
                    keys=keys,
                    tokens=Tokens(
                        keys,
                        issuer=settings.token_issuer,
                        audience=settings.audience,
                        lifetime_s=settings.token_lifetime_s,
                        hospital_lifetime_s=settings.hospital_token_lifetime_s,
                        clock=now,
                    ),
                    standings=standings,
                    oidc=oidc,
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


def _first_start(
    settings: ApiSettings, engine: Engine, passwords: Passwords, now: Callable[[], datetime]
) -> KeyRing:
    ensure_key(settings.secrets)
    ensure_operator(engine, settings.secrets, passwords=passwords, token_url=settings.token_url)
    return KeyRing(
        settings.secrets, longest_lifetime_s=settings.longest_token_lifetime_s, clock=now
    )


def prefect_auth(settings: ApiSettings) -> httpx.BasicAuth | None:
    """Returns the credentials that the Prefect server asks for, if it does."""
    if settings.prefect_api_auth_string is None:
        return None
    username, _, password = settings.prefect_api_auth_string.get_secret_value().partition(":")
    return httpx.BasicAuth(username, password)


def open_gateway(
    settings: ApiSettings, transport: httpx.AsyncBaseTransport, dispatch: Dispatch
) -> Gateway:
    """Makes the gateway to the Prefect server."""
    secret = settings.prefect_api_auth_string
    upstream = Upstream(
        settings.prefect_api_url,
        transport,
        secret=None if secret is None else secret.get_secret_value(),
    )
    return Gateway(upstream=upstream, own=OwnObjects(upstream), dispatch=dispatch)


def _largest_body(settings: ApiSettings, path: str) -> int:
    """The middleware's bound; the exchange checks a narrower one by kind.

    Below ``/models/`` nothing but a public test set has a body.
    """
    if path.startswith(f"{GATEWAY_PATH}/"):
        return calls.largest_body(path.removeprefix(GATEWAY_PATH)) or settings.max_body_bytes
    if path.startswith("/exchange/"):
        return max(settings.max_upload_bytes, settings.max_message_bytes)
    if path.startswith("/models/"):
        return max(settings.max_upload_bytes, settings.max_body_bytes)
    return settings.max_body_bytes
