from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jose import jwt

from api.auth.keys import ALGORITHM, SigningKey

KEY = SigningKey.generate()


def test_publishes_the_public_half_only() -> None:
    published = KEY.jwk()
    assert set(published) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert published["kid"] == KEY.key_id
    token = jwt.encode({"sub": "ada"}, KEY.private, algorithm=ALGORITHM)
    assert jwt.decode(token, published, algorithms=[ALGORITHM]) == {"sub": "ada"}


def test_it_is_the_only_key_where_there_is_but_one() -> None:
    assert KEY.signing() is KEY.find(KEY.key_id) is KEY
    assert KEY.find("another") is None


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
        KEY.public.to_pem(),
    ],
)
def test_only_a_private_key_on_p256_signs(pem: bytes) -> None:
    with pytest.raises(ValueError, match=r"(?i)key|pem"):
        SigningKey.from_pem(pem)
