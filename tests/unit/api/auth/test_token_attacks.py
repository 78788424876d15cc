"""Tokens that are none of ours, or no longer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwt

from api.auth.keys import ALGORITHM, SigningKey
from api.auth.tokens import TOKEN_TYPE, TokenRefused, Tokens

ISSUER, AUDIENCE = "https://fedmed.example", "fedmed"
KEY = SigningKey.generate()
TOKENS = Tokens(KEY, issuer=ISSUER, audience=AUDIENCE, lifetime_s=60)


def segment(value: dict[str, Any] | bytes) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "user:ada",
        "iat": now,
        "exp": now + timedelta(days=1),  # they must not be refused for their age
        "jti": "11111111-2222-3333-4444-555555555555",
        "scope": "training:read",
        "gen": 1,
        **changes,
    }


def signed(
    content: dict[str, Any], *, key: SigningKey = KEY, headers: dict[str, Any] | None = None
) -> str:
    content = {name: value for name, value in content.items() if value is not None}
    headers = {"kid": KEY.key_id, "typ": TOKEN_TYPE, **(headers or {})}
    return jwt.encode(content, key.private, algorithm=ALGORITHM, headers=headers)


def public_pem() -> bytes:
    return KEY.public.to_pem()


def public_jwk() -> bytes:
    return json.dumps(KEY.jwk(), separators=(",", ":")).encode()


def hmac_with(secret: bytes, *, algorithm: str = "HS256") -> str:
    """The confusion of algorithms: the public key, which everybody has, as an HMAC secret."""
    header = segment({"alg": algorithm, "typ": TOKEN_TYPE, "kid": KEY.key_id})
    body = claims(iat=1, exp=9_999_999_999)
    signing_input = f"{header}.{segment(body)}"
    digest = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}.get(algorithm, hashlib.sha512)
    return f"{signing_input}.{segment(hmac.new(secret, signing_input.encode(), digest).digest())}"


def rsa_signed() -> str:
    """A real RSA signature under our key's id."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    headers = {"kid": KEY.key_id, "typ": TOKEN_TYPE}
    return jwt.encode(claims(), pem, algorithm="RS256", headers=headers)


def with_text(header: str, payload: str) -> str:
    """Signed as it is written, so that a name can be there twice."""
    signing_input = f"{segment(header.encode())}.{segment(payload.encode())}"
    return f"{signing_input}.{segment(KEY.private.sign(signing_input.encode()))}"


def repeated_claim() -> str:
    header = json.dumps({"alg": ALGORITHM, "typ": TOKEN_TYPE, "kid": KEY.key_id})
    body = json.dumps(claims(iat=1, exp=9_999_999_999))
    return with_text(header, body[:-1] + ', "sub": "user:operator"}')


def repeated_header() -> str:
    names = f'"alg": "{ALGORITHM}", "typ": "{TOKEN_TYPE}", "kid": "{KEY.key_id}"'
    body = json.dumps(claims(iat=1, exp=9_999_999_999))
    return with_text('{"alg": "none", ' + names + "}", body)


def cut(characters: int) -> str:
    return TOKENS.issue(subject="user:ada", scopes=frozenset(), generation=1)[:-characters]


def with_junk() -> str:
    """What a lenient reader of base64 passes over."""
    token = TOKENS.issue(subject="user:ada", scopes=frozenset(), generation=1)
    return f"{token[:-2]}=\n{token[-2:]}"


def without_signature(algorithm: str) -> str:
    header = segment({"alg": algorithm, "typ": TOKEN_TYPE, "kid": KEY.key_id})
    return f"{header}.{segment(claims(iat=1, exp=9_999_999_999))}."


def with_other_body() -> str:
    header, _, signature = TOKENS.issue(subject="user:ada", scopes=frozenset(), generation=1).split(
        "."
    )
    return f"{header}.{segment(claims(iat=1, exp=9_999_999_999, scope='audit:read'))}.{signature}"


PAST = datetime.now(UTC) - timedelta(hours=1)

ATTACKS = {
    "empty": "",
    "not a token": "abc",
    "two dots and nothing": "..",
    "not ASCII": "ä.ö.ü",
    "header is no object": f"{segment(b'[]')}.{segment(claims(iat=1, exp=2))}.{segment(b'x')}",
    "header is nested deeply": f"{segment(b'[' * 30_000)}.{segment(b'{}')}.{segment(b'x')}",
    "alg none": without_signature("none"),
    "alg None": without_signature("None"),
    "ES256 without a signature": without_signature(ALGORITHM),
    "HS256 with the public key": hmac_with(public_pem()),
    "HS256 with the public key as JWK": hmac_with(public_jwk()),
    "HS256 with an empty secret": hmac_with(b""),
    "HMAC under our algorithm": hmac_with(public_pem(), algorithm=ALGORITHM),
    "HS512 with the public key": hmac_with(public_pem(), algorithm="HS512"),
    "RS256 under our key's id": rsa_signed(),
    "a claim twice": repeated_claim(),
    "a header twice": repeated_header(),
    "signature cut by one character": cut(1),
    "signature cut by half": cut(43),
    "signature cut off": cut(87),
    "signature with junk": with_junk(),
    "another key under our id": signed(claims(), key=SigningKey.generate()),
    "unknown kid": signed(claims(), headers={"kid": "another"}),
    "kid is a path": signed(claims(), headers={"kid": "../../dev/null"}),
    "kid is an object": signed(claims(), headers={"kid": {"a": 1}}),
    "no type": signed(claims(), headers={"typ": "JWT"}),
    "its own key in the header": signed(claims(), headers={"jwk": {"kty": "oct", "k": "eA"}}),
    "a key by address": signed(claims(), headers={"jku": "https://evil.example/jwks"}),
    "a certificate by address": signed(claims(), headers={"x5u": "https://evil.example/c"}),
    "its own certificate": signed(claims(), headers={"x5c": ["MIIB"]}),
    "no kid": signed(claims(), headers={"kid": None}),
    "kid is SQL": signed(claims(), headers={"kid": "' OR 1=1 --"}),
    "critical extension": signed(claims(), headers={"crit": ["b64"], "b64": False}),
    "changed body": with_other_body(),
    "expired": signed(claims(iat=PAST, exp=PAST + timedelta(seconds=60))),
    "not valid yet": signed(claims(nbf=datetime.now(UTC) + timedelta(hours=1))),
    "another audience": signed(claims(aud="another")),
    "another issuer": signed(claims(iss="https://evil.example")),
    "no audience": signed(claims(aud=None)),
    "no issuer": signed(claims(iss=None)),
    "no expiry": signed(claims(exp=None)),
    "no issue time": signed(claims(iat=None)),
    "no id": signed(claims(jti=None)),
    "no subject": signed(claims(sub=None)),
    "empty subject": signed(claims(sub="")),
    "no scope": signed(claims(scope=None)),
    "scopes as a list": signed(claims(scope=["audit:read"])),
    "expiry is a text": signed(claims(exp="never")),
    "expiry beyond all time": signed(claims(exp=10**18)),
    "expiry is infinite": signed(claims(exp=float("inf"))),
    "id is no UUID": signed(claims(jti="1")),
    "no generation": signed(claims(gen=None)),
    "generation is a text": signed(claims(gen="1")),
    "generation before the first": signed(claims(gen=0)),
    "hospital is no name": signed(claims(hospital_id="../north")),
    "a person as a hospital": signed(claims(hospital_id="north", client_id="north")),
    "a hospital as a person": signed(claims(sub="hospital:north")),
    "a hospital as another": signed(
        claims(sub="hospital:south", hospital_id="north", client_id="north")
    ),
    "a hospital without a client": signed(claims(sub="hospital:north", hospital_id="north")),
    "a person with a client": signed(claims(client_id="north")),
    "an issuer's subject": signed(claims(sub="oidc:ada")),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_refuses(attack: str) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.verify(ATTACKS[attack])
