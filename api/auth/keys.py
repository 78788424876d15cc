"""The key pair that signs access tokens: ECDSA on P-256 (RFC 7518, section 3.4).

key = SigningKey.from_pem(SigningKey.generate_pem())
"""

from __future__ import annotations

import hashlib
import json
from typing import Final, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jose import jwk

ALGORITHM: Final = "ES256"
PublicKey = dict[str, str]


class SigningKey:
    """A P-256 key pair with the id under which its public half is published.

    The id is the thumbprint of RFC 7638, so that it follows from the key alone.
    """

    def __init__(self, private_key: ec.EllipticCurvePrivateKey) -> None:
        self.private = jwk.construct(_pem(private_key), ALGORITHM)
        self.public = self.private.public_key()
        described = self.public.to_dict()
        members = {name: _text(described[name]) for name in ("crv", "kty", "x", "y")}
        canonical = json.dumps(members, separators=(",", ":"), sort_keys=True)
        self.key_id = hashlib.sha256(canonical.encode()).hexdigest()
        self._members = members

    @classmethod
    def generate(cls) -> Self:
        """Makes a new key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Reads a private key.

        Raises:
            ValueError: not a private key on P-256.
        """
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ValueError("the signing key must be a private key on P-256, in PEM")
        return cls(key)

    @staticmethod
    def generate_pem() -> bytes:
        """Makes a new private key in PEM (PKCS 8)."""
        return _pem(ec.generate_private_key(ec.SECP256R1()))

    def signing(self) -> SigningKey:
        """Returns the key that signs: itself, where there is but one."""
        return self

    def find(self, key_id: str) -> SigningKey | None:
        """Returns the key of this id, None when it is another's."""
        return self if key_id == self.key_id else None

    def jwk(self) -> PublicKey:
        """Returns the public half as a JSON Web Key (RFC 7517)."""
        return {**self._members, "kid": self.key_id, "alg": ALGORITHM, "use": "sig"}


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
