from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jose import jwt

from api.auth.keys import SigningKey
from api.auth.tokens import AccessToken, TokenRefused, Tokens

ISSUER, AUDIENCE = "https://fedmed.example", "fedmed"
KEY = SigningKey.generate()
TOKENS = Tokens(KEY, issuer=ISSUER, audience=AUDIENCE, lifetime_s=60)


def test_reads_its_own_tokens() -> None:
    token = TOKENS.issue(
        subject="hospital:north",
        scopes=frozenset({"b", "a"}),
        generation=7,
        hospital_id="north",
        client_id="north-1",
    )
    read = jwt.get_unverified_claims(token)
    assert TOKENS.verify(token) == AccessToken(
        token_id=UUID(read["jti"]),
        subject="hospital:north",
        scopes=frozenset({"a", "b"}),
        generation=7,
        expires_at=datetime.fromtimestamp(read["exp"], UTC),
        hospital_id="north",
        client_id="north-1",
    )
    assert read["iss"] == ISSUER
    assert read["aud"] == AUDIENCE
    assert read["exp"] - read["iat"] == 60
    assert read["scope"] == "a b"


def test_every_token_has_its_own_id() -> None:
    tokens = [TOKENS.issue(subject="user:ada", scopes=frozenset(), generation=1) for _ in range(2)]
    first, second = (jwt.get_unverified_claims(token)["jti"] for token in tokens)
    assert first != second


class Clock:
    """The time, as a test sets it."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def test_a_token_expires_known_or_not() -> None:
    clock = Clock()
    first, second = (
        Tokens(KEY, issuer=ISSUER, audience=AUDIENCE, lifetime_s=60, clock=clock) for _ in range(2)
    )
    token = first.issue(subject="user:ada", scopes=frozenset(), generation=1)
    clock.now += timedelta(seconds=58)
    assert first.verify(token) == first.verified_before(token)
    clock.now += timedelta(seconds=3)
    for tokens in (first, second):
        with pytest.raises(TokenRefused):
            tokens.verify(token)


def test_a_hospitals_token_lives_for_a_shorter_time() -> None:
    tokens = Tokens(KEY, issuer=ISSUER, audience=AUDIENCE, lifetime_s=1800, hospital_lifetime_s=300)
    assert tokens.lifetime_s(hospital_id=None) == 1800
    assert tokens.lifetime_s(hospital_id="north") == 300
    assert TOKENS.lifetime_s(hospital_id="north") == TOKENS.lifetime_s(hospital_id=None) == 60


def test_what_was_verified_is_remembered_while_its_key_is_there() -> None:
    class Ring:
        key: SigningKey | None = KEY

        def signing(self) -> SigningKey:
            return KEY

        def find(self, key_id: str) -> SigningKey | None:
            return self.key

    ring = Ring()
    tokens = Tokens(ring, issuer=ISSUER, audience=AUDIENCE, lifetime_s=60)
    text = tokens.issue(subject="user:ada", scopes=frozenset(), generation=1)
    assert tokens.verified_before(text) is None
    verified = tokens.verify(text)
    assert tokens.verified_before(text) is verified
    ring.key = None
    assert tokens.verified_before(text) is None
    with pytest.raises(TokenRefused):
        tokens.verify(text)


@given(position=st.integers(min_value=0), bit=st.integers(0, 5))
def test_no_changed_character_survives(position: int, bit: int) -> None:
    token = TOKENS.issue(subject="user:ada", scopes=frozenset({"training:read"}), generation=1)
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
