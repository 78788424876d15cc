"""People of an external issuer, which is a real one on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import ValidationError

from api.auth.oidc import OidcIssuer, open_issuer, parse_role_map
from api.auth.scopes import EXCHANGE, SCOPES_OF_ROLE
from api.auth.tokens import Principal, TokenRefused


@pytest.mark.parametrize(
    ("key_id", "algorithm"), [("rsa", "RS256"), ("rsa", "PS256"), ("ec", "ES256")]
)
def test_admits_a_person_with_the_mapped_role(
    oidc: OidcIssuer, issuer: Any, key_id: str, algorithm: str
) -> None:
    token = issuer.token(key_id=key_id, algorithm=algorithm)
    assert oidc.names(token)
    principal = oidc.verify(token)
    assert principal.subject == "oidc:7f3a"
    assert principal.scopes == SCOPES_OF_ROLE["operator"]
    assert principal.hospital_id is None


@pytest.mark.parametrize(
    ("roles", "scopes"),
    [
        (["ml"], SCOPES_OF_ROLE["scientist"]),
        ("ml", SCOPES_OF_ROLE["scientist"]),
        (["ml", "consortium-ops", "x"], SCOPES_OF_ROLE["operator"]),
        (["operator"], frozenset()),
        (["hospital", EXCHANGE, 7, None, ["ml"]], frozenset()),
        ([], frozenset()),
        (None, frozenset()),
        ({"ml": True}, frozenset()),
        (7, frozenset()),
    ],
)
def test_only_mapped_roles_give_scopes(
    oidc: OidcIssuer, issuer: Any, roles: Any, scopes: frozenset[str]
) -> None:
    assert oidc.verify(issuer.token(roles=roles)).scopes == scopes


def test_is_never_a_hospital(oidc: OidcIssuer, issuer: Any) -> None:
    claims = {"hospital_id": "north", "client_id": "north", "scope": "exchange", "gen": 1}
    principal = oidc.verify(issuer.token(sub="hospital:north", **claims))
    assert principal.hospital_id is None
    assert principal.subject == "oidc:hospital:north"
    assert EXCHANGE not in principal.scopes


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["ml"]}}),
        ("https://fedmed.example/roles", {"https://fedmed.example/roles": ["ml"]}),
        ("a.b", {"a": "ml"}),
    ],
)
def test_the_claim_is_a_name_or_a_path(
    issuer: Any, settings_for: Any, client: httpx.Client, name: str, claims: dict[str, Any]
) -> None:
    oidc = OidcIssuer(settings_for(issuer, roles_claim=name), client=client)
    expected = frozenset() if name == "a.b" else SCOPES_OF_ROLE["scientist"]
    assert oidc.verify(issuer.token(**claims)).scopes == expected


def hmac_token(issuer: Any, secret: bytes) -> str:
    """The confusion of algorithms: the published key as an HMAC secret."""
    header = {"alg": "HS256", "typ": "JWT", "kid": "rsa"}
    claims = {"iss": issuer.url, "aud": "fedmed", "sub": "x", "iat": 1, "exp": 9_999_999_999}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, claims)
    ]
    mac = hmac.new(secret, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


def public_pem(issuer: Any) -> bytes:
    return (
        issuer.keys["rsa"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


NOW = datetime.now(UTC)
ATTACKS: dict[str, Any] = {
    "another key under the id": lambda i: i.token(
        key=rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    ),
    "ES256 under the RSA key's id": lambda i: i.token(key=i.keys["ec"], algorithm="ES256"),
    "RS256 under the EC key's id": lambda i: i.token(key=i.keys["rsa"], key_id="ec"),
    "RS384": lambda i: i.token(algorithm="RS384"),
    "HS256 with the public key as PEM": lambda i: hmac_token(i, public_pem(i)),
    "HS256 with the public key as JWK": lambda i: hmac_token(i, json.dumps(i.jwk("rsa")).encode()),
    "none": lambda i: i.token(key="", algorithm="none"),
    "unknown kid": lambda i: i.token(headers={"kid": "another"}),
    "no kid": lambda i: i.token(key_id=None),
    "another type": lambda i: i.token(headers={"typ": "logout+jwt"}),
    "critical extension": lambda i: i.token(headers={"crit": ["x"], "x": 1}),
    "another audience": lambda i: i.token(aud="another"),
    "no audience": lambda i: i.token(aud=None),
    "another issuer": lambda i: i.token(iss="https://evil.example"),
    "no issuer": lambda i: i.token(iss=None),
    "no subject": lambda i: i.token(sub=None),
    "empty subject": lambda i: i.token(sub=""),
    "subject with a line break": lambda i: i.token(sub="a\nb"),
    "long subject": lambda i: i.token(sub="a" * 256),
    "expired": lambda i: i.token(exp=NOW - timedelta(minutes=1)),
    "no expiry": lambda i: i.token(exp=None),
    "expiry beyond all time": lambda i: i.token(exp=10**18),
    "not valid yet": lambda i: i.token(nbf=NOW + timedelta(hours=2)),
    "issued in the future": lambda i: i.token(iat=NOW + timedelta(hours=2)),
    "no issue time": lambda i: i.token(iat=None),
    "cut": lambda i: i.token()[:-5],
    "other payload": lambda i: ".".join(
        [*i.token(roles=[]).split(".")[:1], i.token().split(".")[1], i.token(sub="x").split(".")[2]]
    ),
    "nothing": lambda _: "",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_refuses(oidc: OidcIssuer, issuer: Any, attack: str) -> None:
    with pytest.raises(TokenRefused):
        oidc.verify(ATTACKS[attack](issuer))


def test_a_key_in_the_token_itself_is_not_looked_at(oidc: OidcIssuer, issuer: Any) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    issuer.keys["own"] = own
    headers = {"jwk": issuer.jwk("own"), "jku": "https://evil.example/keys", "x5u": "https://e"}
    del issuer.keys["own"]
    token = issuer.token(key=own, key_id="ec", algorithm="ES256", headers=headers)
    with pytest.raises(TokenRefused):
        oidc.verify(token)


def test_clocks_may_differ_by_a_little(oidc: OidcIssuer, issuer: Any) -> None:
    now = datetime.now(UTC)
    oidc.verify(issuer.token(exp=now - timedelta(seconds=15)))
    oidc.verify(issuer.token(iat=now + timedelta(seconds=15), nbf=now + timedelta(seconds=15)))


@pytest.mark.parametrize("text", ["", "a.b.c", "e30.e30.e30", "ä", "[.[.["])
def test_what_is_no_token_is_not_of_the_issuer(oidc: OidcIssuer, text: str) -> None:
    assert not oidc.names(text)


def test_opens_the_issuer_of_the_settings(issuer: Any, settings_for: Any) -> None:
    with open_issuer(settings_for(issuer), clock=lambda: datetime.now(UTC)) as opened:
        assert isinstance(opened, OidcIssuer)
        assert isinstance(opened.verify(issuer.token()), Principal)
    with open_issuer(None, clock=lambda: datetime.now(UTC)) as opened:
        assert opened is None


@pytest.mark.parametrize("text", ["a", "=operator", "a=operator,a=scientist"])
def test_a_map_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="theirs=ours"):
        parse_role_map(text)


@pytest.mark.parametrize("text", ["a=hospital", "a=root", "a="])
def test_a_map_to_a_role_that_people_cannot_have(text: str) -> None:
    with pytest.raises(ValidationError):
        parse_role_map(text)
    assert parse_role_map(" , x = y=operator,") == {"x = y": "operator"}
