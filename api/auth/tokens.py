"""Access tokens: JWTs signed with ES256 (RFC 7519, RFC 9068).

    tokens = Tokens(keys, issuer=url, audience="fedmed", lifetime_s=1800, hospital_lifetime_s=300)
    text = tokens.issue(subject="user:ada", scopes=frozenset({"training:read"}), generation=1)
    token = tokens.verify(text)

A token names one algorithm, one type and a key we hold, or it is refused before its signature is
looked at: neither ``none`` nor a public key used as an HMAC secret gets that far. That a token is
genuine says nothing of its subject's standing: `api.auth.guard` asks for that each time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Protocol, Self
from uuid import UUID, uuid4

from cachetools import LRUCache
from jose import jwt
from jose.exceptions import JWTError
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.auth.keys import ALGORITHM, SigningKey
from fl.invitation import HospitalId

TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - the media type of RFC 9068
USER_PREFIX: Final = "user:"
HOSPITAL_PREFIX: Final = "hospital:"
LONGEST_LIFETIME_S: Final = 86_400
_REQUIRED: Final = ("aud", "iat", "iss", "jti", "sub")
_SHAPE: Final = re.compile(r"[\w-]{1,1024}\.[\w-]{1,4096}\.[\w-]{86}", re.ASCII)
_REMEMBERED: Final = 4096

Clock = Callable[[], datetime]
# Seconds since 1970, while a datetime can hold them.
Moment = Annotated[int, Field(ge=0, lt=253_402_300_800)]


class TokenRefused(Exception):
    """A token that is not one of ours, or no longer valid."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls.

    Attributes:
        subject: ``user:<name>``, ``hospital:<id>`` or ``oidc:<sub>``; the actor of audit events.
        scopes: what the caller may do now.
        hospital_id: the hospital, when the caller is one.
        token_id: ``jti`` of a token of ours.
        expires_at: when the token ends.
    """

    subject: str
    scopes: frozenset[str]
    hospital_id: str | None = None
    token_id: UUID | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """What a genuine token says.

    Attributes:
        token_id: ``jti``.
        subject: ``user:<name>`` or ``hospital:<id>``.
        scopes: what it was issued for.
        generation: of the client's secret or the user's password it was issued for.
        expires_at: when it ends.
        hospital_id: the hospital, None when it is a person's.
        client_id: the hospital's client, None when it is a person's.
    """

    token_id: UUID
    subject: str
    scopes: frozenset[str]
    generation: int
    expires_at: datetime
    hospital_id: str | None
    client_id: str | None


class Keys(Protocol):
    """The keys that sign and verify: a `SigningKey`, or an `api.auth.key_ring.KeyRing`."""

    def signing(self) -> SigningKey:
        """Returns the key that signs."""

    def find(self, key_id: str) -> SigningKey | None:
        """Returns the key of this id, None when none of them has it."""


class _Claims(BaseModel):
    """The claims of our tokens, by their types."""

    model_config = ConfigDict(strict=True, extra="ignore")

    jti: Annotated[UUID, Field(strict=False)]
    sub: Annotated[str, Field(min_length=1)]
    scope: str
    gen: Annotated[int, Field(ge=1)]
    exp: Moment
    nbf: int | None = None
    hospital_id: HospitalId | None = None
    client_id: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_of_one_subject(self) -> Self:
        """A hospital's token names the hospital three times alike, a person's never."""
        if self.hospital_id is None:
            valid = self.sub.startswith(USER_PREFIX) and self.client_id is None
        else:
            of_it = f"{HOSPITAL_PREFIX}{self.hospital_id}"
            valid = self.sub == of_it and self.client_id is not None
        if not valid:
            raise ValueError("the claims name different subjects")
        return self


class Tokens:
    """Issues and verifies access tokens.

    Args:
        keys: sign and verify.
        issuer: ``iss``.
        audience: ``aud``.
        lifetime_s: seconds a person's token is valid.
        hospital_lifetime_s: seconds a hospital's token is valid; as a person's unless given.
        clock: the time.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str,
        audience: str,
        lifetime_s: int,
        hospital_lifetime_s: int | None = None,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._hospital_lifetime_s = hospital_lifetime_s or lifetime_s
        self._verified: LRUCache[bytes, tuple[str, AccessToken]] = LRUCache(_REMEMBERED)
        self._lock = threading.Lock()

    def lifetime_s(self, *, hospital_id: str | None) -> int:
        """Returns the seconds that a token of a hospital, or of a person, is valid."""
        return self._lifetime_s if hospital_id is None else self._hospital_lifetime_s

    def issue(
        self,
        *,
        subject: str,
        scopes: frozenset[str],
        generation: int,
        hospital_id: str | None = None,
        client_id: str | None = None,
    ) -> str:
        """Returns a signed token."""
        now = self._clock()
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "iat": now,
            "exp": now + timedelta(seconds=self.lifetime_s(hospital_id=hospital_id)),
            "jti": str(uuid4()),
            "scope": " ".join(sorted(scopes)),
            "gen": generation,
        }
        if hospital_id is not None:
            claims |= {"hospital_id": hospital_id, "client_id": client_id}
        key = self._keys.signing()
        headers = {"kid": key.key_id, "typ": TOKEN_TYPE}
        return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers=headers)

    def verify(self, text: str) -> AccessToken:
        """Returns what a token says.

        Raises:
            TokenRefused: whatever is wrong with it; the text does not say more than an attacker
                may know.
        """
        known = self.verified_before(text)
        if known is not None:
            return known
        key = self._key_of(text)
        try:
            claims = jwt.decode(
                text,
                key.public,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                # The times are held against the clock that issues, below.
                options={
                    **{f"require_{claim}": True for claim in _REQUIRED},
                    "verify_exp": False,
                    "verify_nbf": False,
                },
            )
            _refuse_repeated_names(text)
            read = _Claims.model_validate(claims)
            expires_at = datetime.fromtimestamp(read.exp, UTC)
        except (JWTError, ValueError, OverflowError) as error:
            raise _refused() from error
        require_time(expires_at=read.exp, not_before=read.nbf, now=self._clock())
        token = AccessToken(
            token_id=read.jti,
            subject=read.sub,
            scopes=frozenset(read.scope.split()),
            generation=read.gen,
            expires_at=expires_at,
            hospital_id=read.hospital_id,
            client_id=read.client_id,
        )
        with self._lock:
            self._verified[_digest(text)] = (key.key_id, token)
        return token

    def verified_before(self, text: str) -> AccessToken | None:
        """Returns what a token says that was verified lately, None when it was not.

        Raises:
            TokenRefused: it has expired since.
        """
        with self._lock:
            key_id, token = self._verified.get(_digest(text), (None, None))
        # A key that was taken out of the directory verifies nothing more, in memory neither.
        if token is None or key_id is None or self._keys.find(key_id) is None:
            return None
        require_time(expires_at=token.expires_at.timestamp(), not_before=None, now=self._clock())
        return token

    def _key_of(self, text: str) -> SigningKey:
        """Returns the key that a token names, when the header is word for word one of ours."""
        if _SHAPE.fullmatch(text) is None:
            raise _refused()
        try:
            header: Mapping[str, Any] = jwt.get_unverified_header(text)
        except JWTError as error:
            raise _refused() from error
        key_id = header.get("kid")
        key = self._keys.find(key_id) if isinstance(key_id, str) else None
        expected = {"alg": ALGORITHM, "typ": TOKEN_TYPE, "kid": key_id}
        if key is None or dict(header) != expected:
            raise TokenRefused("the token names another algorithm, type or key")
        return key


def require_time(
    *, expires_at: float, not_before: float | None, now: datetime, leeway_s: float = 0.0
) -> None:
    """Refuses a token before and after its time (RFC 7519, sections 4.1.4 and 4.1.5).

    ``leeway_s``: seconds by which the clock of another issuer may differ.

    Raises:
        TokenRefused: it has expired, or is not valid yet.
    """
    moment = now.timestamp()
    is_early = not_before is not None and not_before > moment + leeway_s
    if is_early or expires_at <= moment - leeway_s:
        raise _refused()


def _refuse_repeated_names(text: str) -> None:
    """Two readers of a repeated name may take different values (RFC 7519, section 4)."""
    for segment in text.split(".")[:2]:
        decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        json.loads(decoded, object_pairs_hook=_without_repeats)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name is given twice")
    return members


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _refused() -> TokenRefused:
    return TokenRefused("the token is not valid here, or no longer")
