"""People of an external issuer at the API's routes."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from api.app import create_app
from api.settings import ApiSettings

pytestmark = [pytest.mark.anyio, pytest.mark.integration]
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def issuer() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            key = {**ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "1"}
            body = {"issuer": url, "jwks_uri": f"{url}/keys", "keys": [key]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield url
    server.shutdown()
    server.server_close()
    thread.join()


def header_of(issuer: str, *roles: str) -> dict[str, str]:
    now = datetime.now(UTC)
    claims = {"iss": issuer, "aud": "fedmed", "sub": "7f3a", "roles": list(roles)}
    times = {"iat": now, "exp": now + timedelta(minutes=5)}
    token = jwt.encode({**claims, **times}, KEY, algorithm="ES256", headers={"kid": "1"})
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def trusting(
    api: Any, issuer: str, settings: ApiSettings
) -> AsyncIterator[httpx.AsyncClient]:
    """A second process of the API, which trusts the issuer."""
    trusting = settings.model_copy(
        update={
            "oidc_issuer": issuer,
            "oidc_audience": "fedmed",
            "oidc_role_map": {"ml": "scientist", "ops": "operator"},
        }
    )
    app = create_app(trusting)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://testserver",
        ) as client,
    ):
        yield client


async def test_its_people_have_the_scopes_of_their_mapped_roles(
    api: Any, trusting: httpx.AsyncClient, issuer: str
) -> None:
    scientist = header_of(issuer, "ml")
    assert (await trusting.get("/models", headers=scientist)).status_code == 200
    registered = await trusting.post("/models", json=api.model, headers=scientist)
    assert registered.status_code == 201
    assert (await trusting.get("/users", headers=scientist)).status_code == 403
    assert (await trusting.get("/users", headers=header_of(issuer, "ops"))).status_code == 200
    (event,) = await api.get("/audit/events", "audit:read")
    assert event["actor"] == "oidc:7f3a"


async def test_an_unmapped_role_may_nothing(trusting: httpx.AsyncClient, issuer: str) -> None:
    for path in ("/models", "/exchange/roster"):
        answer = await trusting.get(path, headers=header_of(issuer, "operator"))
        assert answer.status_code == 403
        assert answer.json()["type"] == "/problems/insufficient-scope"
    password = {"old": "x", "new": "correct horse battery"}
    answer = await trusting.put(
        "/users/me/password", json=password, headers=header_of(issuer, "ml")
    )
    assert answer.json()["type"] == "/problems/no-password"


async def test_where_no_issuer_is_trusted_its_tokens_are_refused(api: Any, issuer: str) -> None:
    answer = await api.client.get("/models", headers=header_of(issuer, "ml"))
    assert answer.status_code == 401


async def test_an_issuer_that_is_away_is_said_and_harms_nobody_else(
    api: Any, settings: ApiSettings
) -> None:
    away = "http://127.0.0.1:9"
    trusting = settings.model_copy(update={"oidc_issuer": away, "oidc_audience": "fedmed"})
    app = create_app(trusting)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client,
    ):
        answer = await client.get("/models", headers=header_of(away, "ml"))
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/issuer-unavailable"
        assert answer.headers["retry-after"] == "5"
        ours = await client.get("/models", headers=api.may("training:read"))
        assert ours.status_code == 200
        forged = await client.get("/models", headers=header_of("https://evil.example", "ml"))
        assert forged.status_code == 401
