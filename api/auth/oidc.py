"""People of an OpenID Connect issuer: its signed tokens instead of a password of ours.

    with open_issuer(OidcSettings(...), clock=now) as issuer:
        if issuer.names(text):
            principal = issuer.verify(text)

Whatever such a token says, it speaks for a person with the roles that the settings map to ours,
never for a hospital. Its keys come from `api.auth.issuer_keys`.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import httpx
import jwt
from jwt.exceptions import PyJWTError
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, TypeAdapter

from api.auth.issuer_keys import FAMILIES, IssuerKeys
from api.auth.scopes import SCOPES_OF_ROLE
from api.auth.tokens import Principal, TokenRefused, require_time
from db.models import Role

RoleMap = Mapping[str, Role]
SUBJECT_PREFIX: Final = "oidc:"
LEEWAY_S: Final = 30.0
_TIMEOUT_S: Final = 5.0
_TYPES: Final = (None, "JWT", "at+jwt", "application/at+jwt")
_REQUIRED: Final = ("aud", "exp", "iat", "iss", "sub")
_ROLE: Final[TypeAdapter[Role]] = TypeAdapter(Role)
_FOREIGN: Final = (PyJWTError, ValueError, RecursionError)


def parse_role_map(text: str) -> dict[str, Role]:
    """Reads ``theirs=ours,…``.

    Raises:
        ValueError: it is something else, or names a role that we do not have.

    >>> parse_role_map("consortium-ops=operator, ml=scientist")
    {'consortium-ops': 'operator', 'ml': 'scientist'}
    """
    mapped: dict[str, Role] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        theirs, equals, ours = (part.strip() for part in pair.rpartition("="))
        if not (theirs and equals) or theirs in mapped:
            raise ValueError(f"{pair!r}: write each of the issuer's roles once, as theirs=ours")
        mapped[theirs] = _ROLE.validate_python(ours)
    return mapped


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """What is expected of the issuer's tokens.

    Attributes:
        issuer: ``iss``, and where its discovery document lies.
        audience: ``aud``.
        roles_claim: the claim that lists roles: its name, or a dotted path to it.
        role_map: the issuer's roles and ours; one that is not listed gives nothing.
    """

    issuer: str
    audience: str
    roles_claim: str
    role_map: RoleMap


class _Claims(BaseModel):
    """What is read of the issuer's tokens, by its types."""

    model_config = ConfigDict(strict=True, extra="ignore")

    # It goes into the audit record and into logs.
    sub: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$")]
    exp: Annotated[FiniteFloat, Field(ge=0, lt=253_402_300_800)]
    iat: FiniteFloat
    nbf: FiniteFloat | None = None


class OidcIssuer:
    """Verifies the tokens of one issuer.

    Args:
        settings: what is expected of them.
        client: fetches the issuer's documents, with a timeout, following no redirects.
        clock: the time.
        timer: seconds, for how old the keys are.
    """

    def __init__(
        self,
        settings: OidcSettings,
        *,
        client: httpx.Client,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._keys = IssuerKeys(settings.issuer, client=client, timer=timer)

    def names(self, text: str) -> bool:
        """Whether a token says, unverified, that it is of this issuer."""
        try:
            unverified = jwt.decode(text, options={"verify_signature": False})
        except _FOREIGN:
            return False
        return bool(unverified.get("iss") == self._settings.issuer)

    def verify(self, text: str) -> Principal:
        """Returns whom a token speaks for; without a role that is mapped, with no scope.

        May ask the issuer for its keys: not to be called in the event loop.

        Raises:
            TokenRefused: whatever is wrong with it.
            IssuerAway: the issuer's keys cannot be had now.
        """
        try:
            algorithm, key_id = _named(jwt.get_unverified_header(text))
            claims = jwt.decode(
                text,
                self._keys.find(key_id, algorithm),
                algorithms=[algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                # Times are held against the clock that is injected, below.
                options={
                    "require": list(_REQUIRED),
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            read = _Claims.model_validate(claims)
            expires_at = datetime.fromtimestamp(read.exp, UTC)
        except _FOREIGN as error:
            raise TokenRefused("the token is not valid here, or no longer") from error
        start = max(read.iat, read.nbf if read.nbf is not None else read.iat)
        require_time(expires_at=read.exp, not_before=start, now=self._clock(), leeway_s=LEEWAY_S)
        return Principal(f"{SUBJECT_PREFIX}{read.sub}", self._scopes(claims), expires_at=expires_at)

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[str]:
        listed = _at(claims, self._settings.roles_claim)
        theirs = [listed] if isinstance(listed, str) else listed
        if not isinstance(theirs, list):
            return frozenset()
        role_map = self._settings.role_map
        ours = {role_map[role] for role in theirs if isinstance(role, str) and role in role_map}
        return frozenset().union(*(SCOPES_OF_ROLE[role] for role in ours))


@contextmanager
def open_issuer(
    settings: OidcSettings | None, *, clock: Callable[[], datetime]
) -> Iterator[OidcIssuer | None]:
    """Opens the issuer of the settings, when there is one; trusts the system's authorities."""
    if settings is None:
        yield None
        return
    with httpx.Client(
        timeout=_TIMEOUT_S,
        follow_redirects=False,
        trust_env=False,
        verify=ssl.create_default_context(),
    ) as client:
        yield OidcIssuer(settings, client=client, clock=clock)


def _named(header: Mapping[str, Any]) -> tuple[str, str]:
    """Returns algorithm and key of a header; its own keys and addresses of keys are not looked at.

    Raises:
        TokenRefused: an algorithm or a type that is not taken, no key, or what must be understood.
    """
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in FAMILIES or header.get("typ") not in _TYPES or "crit" in header:
        raise TokenRefused("the token names an algorithm or a type that is not taken")
    if not isinstance(algorithm, str) or not isinstance(key_id, str):
        raise TokenRefused("the token names no key")
    return algorithm, key_id


def _at(claims: Mapping[str, Any], name: str) -> Any:
    """Returns a claim by its name, which may be an address, or by its dotted path."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
