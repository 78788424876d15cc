"""A small OpenID Connect issuer, served on loopback, with RSA and EC keys of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from api.auth.oidc import OidcIssuer, OidcSettings, parse_role_map


class Issuer:
    """The issuer's documents, its keys by id, and how it fails; counts what is asked of it."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {
            "rsa": rsa.generate_private_key(public_exponent=65_537, key_size=2048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
        }
        self.changes: dict[str, dict[str, Any]] = {}
        self.discovery_changes: dict[str, Any] = {}
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/realm"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add_key(self, key_id: str, key: Any) -> None:
        self.keys[key_id] = key

    def jwk(self, key_id: str) -> dict[str, Any]:
        key = self.keys[key_id]
        algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        described = algorithm.to_jwk(key.public_key(), as_dict=True)
        return {**described, "kid": key_id, **self.changes.get(key_id, {})}

    def token(
        self,
        *,
        key: Any = None,
        key_id: str | None = "rsa",
        algorithm: str = "RS256",
        headers: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        now = datetime.now(UTC)
        content = {
            "iss": self.url,
            "aud": "fedmed",
            "sub": "7f3a",
            "iat": now,
            "exp": now + timedelta(minutes=5),
            "roles": ["consortium-ops"],
            **claims,
        }
        content = {name: value for name, value in content.items() if value is not None}
        own = {} if key_id is None else {"kid": key_id}
        signing = self.keys[key_id or "rsa"] if key is None else key
        return jwt.encode(content, signing, algorithm=algorithm, headers={**own, **(headers or {})})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                status, body = issuer.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def answer(self, path: str) -> tuple[int, bytes]:
        if path in self.answers:
            return self.answers[path]
        if path == "/realm/.well-known/openid-configuration":
            document = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
            return 200, json.dumps({**document, **self.discovery_changes}).encode()
        if path == "/realm/keys":
            return 200, json.dumps({"keys": [self.jwk(key_id) for key_id in self.keys]}).encode()
        return 404, b""


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    started = Issuer()
    yield started
    started.stop()


class Timer:
    passed_s = 0.0

    def __call__(self) -> float:
        return self.passed_s


@pytest.fixture
def timer() -> Timer:
    return Timer()


@pytest.fixture
def settings_for() -> Callable[..., OidcSettings]:
    def make(issuer: Issuer, *, roles_claim: str = "roles") -> OidcSettings:
        role_map = parse_role_map("consortium-ops=operator, ml=scientist")
        return OidcSettings(
            issuer=issuer.url, audience="fedmed", roles_claim=roles_claim, role_map=role_map
        )

    return make


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5.0, trust_env=False) as opened:
        yield opened


@pytest.fixture
def oidc(settings_for: Any, issuer: Issuer, client: httpx.Client, timer: Timer) -> OidcIssuer:
    return OidcIssuer(settings_for(issuer), client=client, timer=timer)
