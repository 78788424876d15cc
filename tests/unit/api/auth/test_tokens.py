from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st
from jose import jwt

from api.auth.tokens import ALGORITHM, TOKEN_TYPE, Principal, SigningKey, TokenRefused, Tokens

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
        "exp": now + timedelta(seconds=60),
        "jti": "1",
        "scope": "training:read",
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


def hs256_with_public_key() -> str:
    """The confusion of algorithms: the public key, which everybody has, as an HMAC secret."""
    header = segment({"alg": "HS256", "typ": TOKEN_TYPE, "kid": KEY.key_id})
    body = claims(iat=1, exp=9_999_999_999)
    signing_input = f"{header}.{segment(body)}"
    mac = hmac.new(public_pem(), signing_input.encode(), hashlib.sha256).digest()
    return f"{signing_input}.{segment(mac)}"


def without_signature(algorithm: str) -> str:
    header = segment({"alg": algorithm, "typ": TOKEN_TYPE, "kid": KEY.key_id})
    return f"{header}.{segment(claims(iat=1, exp=9_999_999_999))}."


def with_other_body() -> str:
    header, _, signature = TOKENS.issue(subject="user:ada", scopes=frozenset()).split(".")
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
    "HS256 with the public key": hs256_with_public_key(),
    "another key under our id": signed(claims(), key=SigningKey.generate()),
    "unknown kid": signed(claims(), headers={"kid": "another"}),
    "kid is a path": signed(claims(), headers={"kid": "../../dev/null"}),
    "kid is an object": signed(claims(), headers={"kid": {"a": 1}}),
    "no type": signed(claims(), headers={"typ": "JWT"}),
    "its own key in the header": signed(claims(), headers={"jwk": {"kty": "oct", "k": "eA"}}),
    "a key by address": signed(claims(), headers={"jku": "https://evil.example/jwks"}),
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
    "hospital is no name": signed(claims(hospital_id="../north")),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_refuses(attack: str) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.verify(ATTACKS[attack])


def test_reads_its_own_tokens() -> None:
    token = TOKENS.issue(
        subject="hospital:north", scopes=frozenset({"b", "a"}), hospital_id="north"
    )
    assert TOKENS.verify(token) == Principal("hospital:north", frozenset({"a", "b"}), "north")
    read = jwt.get_unverified_claims(token)
    assert read["iss"] == ISSUER
    assert read["aud"] == AUDIENCE
    assert read["exp"] - read["iat"] == 60
    assert read["scope"] == "a b"


def test_every_token_has_its_own_id() -> None:
    tokens = [TOKENS.issue(subject="user:ada", scopes=frozenset()) for _ in range(2)]
    first, second = (jwt.get_unverified_claims(token)["jti"] for token in tokens)
    assert first != second


def test_a_token_expires() -> None:
    earlier = Tokens(
        KEY,
        issuer=ISSUER,
        audience=AUDIENCE,
        lifetime_s=60,
        clock=lambda: datetime.now(UTC) - timedelta(seconds=61),
    )
    with pytest.raises(TokenRefused):
        TOKENS.verify(earlier.issue(subject="user:ada", scopes=frozenset()))


@given(position=st.integers(min_value=0), bit=st.integers(0, 5))
def test_no_changed_character_survives(position: int, bit: int) -> None:
    token = TOKENS.issue(subject="user:ada", scopes=frozenset({"training:read"}))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    position %= len(token) - 1  # the last character may hold bits that do not count
    old = token[position]
    new = "A" if old == "." else alphabet[alphabet.index(old) ^ (1 << bit)]
    changed = token[:position] + new + token[position + 1 :]
    if changed.split(".")[0] == token.split(".")[0] and changed.count(".") == 2:
        # The last character of a segment may hold bits that do not count either.
        segments = zip(changed.split("."), token.split("."), strict=True)
        if all(_decoded(a) == _decoded(b) for a, b in segments):
            return
    with pytest.raises(TokenRefused):
        TOKENS.verify(changed)


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_publishes_the_public_half_only() -> None:
    (published,) = KEY.jwks()["keys"]
    assert set(published) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert published["kid"] == KEY.key_id
    token = TOKENS.issue(subject="user:ada", scopes=frozenset())
    assert jwt.decode(token, published, algorithms=[ALGORITHM], audience=AUDIENCE)


def test_the_key_id_follows_from_the_key() -> None:
    pem = SigningKey.generate_pem()
    assert SigningKey.from_pem(pem).key_id == SigningKey.from_pem(pem).key_id
    assert SigningKey.from_pem(pem).key_id != KEY.key_id


def _pem(key: Any) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"not a key",
        _pem(ed25519.Ed25519PrivateKey.generate()),
        _pem(ec.generate_private_key(ec.SECP384R1())),
        public_pem(),
    ],
)
def test_only_a_private_key_on_p256_signs(pem: bytes) -> None:
    with pytest.raises(ValueError, match=r"(?i)key|pem"):
        SigningKey.from_pem(pem)
