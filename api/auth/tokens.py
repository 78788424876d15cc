"""Access tokens: JWTs signed with ES256 (RFC 7519, RFC 9068).

    tokens = Tokens(SigningKey.from_pem(pem), issuer=url, audience="fedmed", lifetime_s=1800)
    token = tokens.issue(subject="user:operator", scopes=frozenset({"training:read"}))
    principal = tokens.verify(token)

A token names one algorithm, one type and a key we hold, or it is refused before its signature is
looked at: neither ``none`` nor a public key used as an HMAC secret gets that far.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Self
from uuid import uuid4

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jose import jwk, jwt
from jose.exceptions import JWTError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fl.invitation import HospitalId

ALGORITHM: Final = "ES256"
TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - the media type of RFC 9068
_REQUIRED: Final = ("aud", "exp", "iat", "iss", "jti", "sub")

Clock = Callable[[], datetime]


class TokenRefused(Exception):
    """A token that is not one of ours, or no longer valid."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls.

    Attributes:
        subject: ``user:<name>`` or ``hospital:<id>``; the actor of audit events.
        scopes: what the token allows.
        hospital_id: the hospital, when the caller is one.
    """

    subject: str
    scopes: frozenset[str]
    hospital_id: str | None = None


class _Claims(BaseModel):
    """The claims of our tokens, by their types."""

    model_config = ConfigDict(strict=True, extra="ignore")

    sub: Annotated[str, Field(min_length=1)]
    scope: str
    hospital_id: HospitalId | None = None


class SigningKey:
    """A P-256 key pair with the id under which its public half is published.

    The id is the thumbprint of RFC 7638, so that it follows from the key alone.
    """

    def __init__(self, private_key: ec.EllipticCurvePrivateKey) -> None:
        private_pem = private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self.private = jwk.construct(private_pem, ALGORITHM)
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
        return ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Returns the public half as a JSON Web Key Set (RFC 7517)."""
        return {"keys": [{**self._members, "kid": self.key_id, "alg": ALGORITHM, "use": "sig"}]}


class Tokens:
    """Issues and verifies access tokens.

    Args:
        key: signs and verifies.
        issuer: ``iss``.
        audience: ``aud``.
        lifetime_s: seconds a token is valid.
        clock: the time at which tokens are issued.
    """

    def __init__(
        self,
        key: SigningKey,
        *,
        issuer: str,
        audience: str,
        lifetime_s: int,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self.lifetime_s = lifetime_s

    def issue(self, *, subject: str, scopes: frozenset[str], hospital_id: str | None = None) -> str:
        """Returns a signed token."""
        now = self._clock()
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "iat": now,
            "exp": now + timedelta(seconds=self.lifetime_s),
            "jti": str(uuid4()),
            "scope": " ".join(sorted(scopes)),
        }
        if hospital_id is not None:
            claims["hospital_id"] = hospital_id
        headers = {"kid": self._key.key_id, "typ": TOKEN_TYPE}
        return jwt.encode(claims, self._key.private, algorithm=ALGORITHM, headers=headers)

    def verify(self, token: str) -> Principal:
        """Returns who the token speaks for.

        Raises:
            TokenRefused: whatever is wrong with it; the text does not say more than an attacker
                may know.
        """
        try:
            self._check_header(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                self._key.public,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                options={f"require_{claim}": True for claim in _REQUIRED},
            )
            read = _Claims.model_validate(claims)
        except (JWTError, ValidationError) as error:
            raise TokenRefused("the token is not valid here, or no longer") from error
        return Principal(read.sub, frozenset(read.scope.split()), read.hospital_id)

    def _check_header(self, header: Mapping[str, Any]) -> None:
        expected = {"alg": ALGORITHM, "typ": TOKEN_TYPE, "kid": self._key.key_id}
        if dict(header) != expected:
            raise TokenRefused("the token names another algorithm, type or key")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
