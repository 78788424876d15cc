"""The keys of an external issuer, which is a real one on loopback."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from api.auth.issuer_keys import (
    FRESH_FOR_S,
    REFRESH_EVERY_S,
    RETRY_EVERY_S,
    IssuerAway,
    require_safe_address,
)
from api.auth.oidc import OidcIssuer
from api.auth.tokens import TokenRefused

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("key_id", "algorithm", "changes"),
    [
        ("rsa", "RS256", {"use": "enc"}),
        ("rsa", "RS256", {"alg": "PS256"}),
        ("rsa", "RS256", {"kty": "oct", "k": "eA"}),
        ("rsa", "RS256", {"n": "!"}),
        ("rsa", "RS256", {"n": None}),
        ("ec", "ES256", {"crv": "P-384"}),
        ("ec", "ES256", {"x": "AAAA"}),
    ],
)
def test_a_key_that_is_published_for_something_else(
    oidc: OidcIssuer, issuer: Any, key_id: str, algorithm: str, changes: dict[str, Any]
) -> None:
    issuer.changes[key_id] = changes
    with pytest.raises(TokenRefused):
        oidc.verify(issuer.token(key_id=key_id, algorithm=algorithm))


def test_a_weak_key_is_refused(oidc: OidcIssuer, issuer: Any) -> None:
    issuer.add_key("weak", rsa.generate_private_key(public_exponent=65_537, key_size=1024))  # noqa: S505
    with (
        pytest.warns(Warning, match="below the minimum"),
        pytest.raises(TokenRefused, match="too weak"),
    ):
        oidc.verify(issuer.token(key_id="weak"))


def test_keys_are_fetched_once_and_again_for_a_new_one(
    oidc: OidcIssuer, issuer: Any, timer: Any
) -> None:
    for _ in range(3):
        oidc.verify(issuer.token())
    assert issuer.asked == ["/realm/.well-known/openid-configuration", "/realm/keys"]

    issuer.add_key("next", ec.generate_private_key(ec.SECP256R1()))
    new = issuer.token(key_id="next", algorithm="ES256")
    timer.passed_s = REFRESH_EVERY_S - 1
    for _ in range(3):
        with pytest.raises(TokenRefused, match="does not publish"):
            oidc.verify(new)
    assert len(issuer.asked) == 2
    timer.passed_s = REFRESH_EVERY_S
    assert oidc.verify(new).subject == "oidc:7f3a"


def test_a_key_that_the_issuer_took_back_is_dropped(
    oidc: OidcIssuer, issuer: Any, timer: Any
) -> None:
    old = issuer.token()
    oidc.verify(old)
    del issuer.keys["rsa"]
    timer.passed_s = FRESH_FOR_S
    with pytest.raises(TokenRefused):
        oidc.verify(old)


def test_keys_serve_for_a_while_without_the_issuer(
    oidc: OidcIssuer, issuer: Any, timer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    token = issuer.token(exp=NOW + timedelta(hours=2))
    oidc.verify(token)
    issuer.answers["/realm/keys"] = (500, b"")
    timer.passed_s = FRESH_FOR_S
    oidc.verify(token)
    assert "cannot be read" in caplog.text
    with pytest.raises(IssuerAway):
        oidc.verify(issuer.token(headers={"kid": "unknown"}))
    timer.passed_s = 2 * FRESH_FOR_S
    with pytest.raises(IssuerAway, match="cannot be had now"):
        oidc.verify(token)
    asked = len(issuer.asked)
    with pytest.raises(IssuerAway):  # not asked again at once
        oidc.verify(token)
    assert len(issuer.asked) == asked
    del issuer.answers["/realm/keys"]
    timer.passed_s += RETRY_EVERY_S
    assert oidc.verify(token)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/realm/.well-known/openid-configuration", (302, b"")),
        ("/realm/.well-known/openid-configuration", (200, b"[]")),
        ("/realm/.well-known/openid-configuration", (200, b"no JSON")),
        ("/realm/.well-known/openid-configuration", (200, b'{"issuer": "https://evil.example"}')),
        ("/realm/keys", (200, b'{"keys": 7}')),
        ("/realm/keys", (200, b" " * (1024 * 1024 + 1))),
        ("/realm/keys", (404, b"")),
    ],
)
def test_documents_that_cannot_be_used(
    oidc: OidcIssuer, issuer: Any, path: str, answer: tuple[int, bytes]
) -> None:
    issuer.answers[path] = answer
    with pytest.raises(IssuerAway):
        oidc.verify(issuer.token())


@pytest.mark.parametrize("address", [7, None, "http://evil.example/keys", "file:///etc/passwd"])
def test_keys_are_fetched_from_safe_addresses_only(
    oidc: OidcIssuer, issuer: Any, address: Any
) -> None:
    issuer.discovery_changes["jwks_uri"] = address
    with pytest.raises(IssuerAway):
        oidc.verify(issuer.token())


def test_others_do_not_wait_behind_who_asks_the_issuer(oidc: OidcIssuer, issuer: Any) -> None:
    token = issuer.token()
    with oidc._keys._refreshing, pytest.raises(IssuerAway):
        oidc.verify(token)
    assert issuer.asked == []
    assert oidc.verify(token)


@pytest.mark.parametrize(
    "address",
    ["https://login.example", "http://127.0.0.1:80/x", "http://localhost", "http://[::1]:7"],
)
def test_safe_addresses(address: str) -> None:
    require_safe_address(address)


@pytest.mark.parametrize("address", ["http://login.example", "ftp://127.0.0.1", "login", ""])
def test_other_addresses(address: str) -> None:
    with pytest.raises(ValueError, match="must be https"):
        require_safe_address(address)
