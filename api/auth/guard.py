"""What stands before a route: a valid token, its subject's standing, a scope, a hospital.

@router.get("/models")
def list_models(caller: Annotated[Principal, may(TRAINING_READ)]) -> ...

A token is genuine or not for as long as it lives, which may be remembered. Whether its subject may
still call is asked at every request: suspended, with another secret or role, a revoked token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, NoReturn
from uuid import UUID

from anyio import to_thread
from fastapi import Depends, Security
from fastapi.openapi.models import OAuthFlowClientCredentials, OAuthFlowPassword, OAuthFlows
from fastapi.security import OAuth2, SecurityScopes

from api.auth.issuer_keys import IssuerAway
from api.auth.scopes import EXCHANGE, HOSPITAL, SCOPES, SCOPES_OF_ROLE
from api.auth.standing import ACTIVE, is_current
from api.auth.tokens import AccessToken, Principal, TokenRefused
from api.errors import Problem, hospital_not_active
from api.services import Services, ServicesDep
from db.queries.standing import Standing

TOKEN_PATH: Final = "/oauth/token"  # noqa: S105 - a path
REVOKE_PATH: Final = "/oauth/revoke"

_REALM: Final = 'Bearer realm="fedmed"'
_SCHEME: Final = OAuth2(
    flows=OAuthFlows(
        password=OAuthFlowPassword(
            tokenUrl=TOKEN_PATH,
            scopes={name: SCOPES[name] for name in SCOPES if name != EXCHANGE},
        ),
        clientCredentials=OAuthFlowClientCredentials(
            tokenUrl=TOKEN_PATH, scopes={EXCHANGE: SCOPES[EXCHANGE]}
        ),
    ),
    description="People sign in with a password, hospitals with their client credentials.",
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class HospitalCaller:
    """A hospital that takes part in rounds.

    Attributes:
        hospital_id: the hospital.
        subject: the actor of audit events.
        token_id: ``jti`` of its token.
        expires_at: when its token ends; what is held open must not outlive it.
    """

    hospital_id: str
    subject: str
    token_id: UUID
    expires_at: datetime


async def authenticate(
    required: SecurityScopes,
    services: ServicesDep,
    authorization: Annotated[str | None, Security(_SCHEME)],
) -> Principal:
    """Returns who calls.

    Raises:
        Problem: as `admit`.
    """
    return await admit_async(services, authorization, scopes=required.scopes)


def admit(services: Services, authorization: str | None, *, scopes: Sequence[str]) -> Principal:
    """Returns who calls with this ``Authorization`` header, for callers outside of the routes.

    May read the database: not to be called in the event loop.

    Raises:
        Problem: 401 without a valid token, 403 when it lacks a scope (RFC 6750, section 3) or is of
            a hospital that may not take part, 503 while the issuer of it is away.
    """
    text = _bearer(authorization)
    return _require_scopes(_identify(services, text), scopes)


async def admit_async(
    services: Services, authorization: str | None, *, scopes: Sequence[str]
) -> Principal:
    """As `admit`, in the event loop: a thread is used only for what is not in memory."""
    text = _bearer(authorization)
    principal = _remembered(services, text)
    if principal is None:
        principal = await to_thread.run_sync(_identify, services, text)
    return _require_scopes(principal, scopes)


def may(*scopes: str) -> Any:
    """The dependency on a caller with all of these scopes."""
    return Security(authenticate, scopes=list(scopes))


async def admit_hospital_async(services: Services, authorization: str | None) -> HospitalCaller:
    """As `admit_async`, for a hospital that takes part in rounds."""
    return _hospital(await admit_async(services, authorization, scopes=[EXCHANGE]))


async def hospital_caller(principal: Annotated[Principal, may(EXCHANGE)]) -> HospitalCaller:
    """Returns the hospital that calls.

    Raises:
        Problem: 403, the token is not a hospital's.
    """
    return _hospital(principal)


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise _unauthorized("send a token of POST /oauth/token as a bearer token", _REALM)
    return token.strip()


def _remembered(services: Services, text: str) -> Principal | None:
    """Returns who calls as far as memory tells it; touches neither database nor network."""
    try:
        token = services.tokens.verified_before(text)
    except TokenRefused as error:
        _refuse_token(error)
    standing = None if token is None else services.standings.known(token)
    return None if token is None or standing is None else _principal(token, standing)


def _identify(services: Services, text: str) -> Principal:
    try:
        if services.oidc is not None and services.oidc.names(text):
            return services.oidc.verify(text)
        token = services.tokens.verify(text)
    except TokenRefused as error:
        _refuse_token(error)
    except IssuerAway as error:
        raise Problem(
            503,
            "issuer-unavailable",
            "The issuer of the token is away",
            detail=f"{error}; try again",
            headers={"Retry-After": "5"},
        ) from error
    standing = services.standings.known(token) or services.standings.look_up(token)
    return _principal(token, standing)


def _principal(token: AccessToken, standing: Standing | None) -> Principal:
    """Returns whom a genuine token speaks for now.

    Raises:
        Problem: 401 when it was revoked or replaced, 403 when the hospital may not take part.
    """
    if standing is None or not is_current(standing, token):
        _refuse_token(TokenRefused("the token was revoked or replaced"))
    if standing.state != ACTIVE:
        if token.hospital_id is not None:
            raise hospital_not_active(token.hospital_id, state=standing.state)
        _refuse_token(TokenRefused("the user is suspended"))
    return Principal(
        token.subject,
        token.scopes & SCOPES_OF_ROLE[standing.role or HOSPITAL],
        token.hospital_id,
        token.token_id,
        token.expires_at,
    )


def _require_scopes(principal: Principal, scopes: Sequence[str]) -> Principal:
    missing = sorted(set(scopes) - principal.scopes)
    if missing:
        raise Problem(
            403,
            "insufficient-scope",
            "The token lacks a scope",
            detail=f"this needs the scope {' '.join(missing)}",
            headers={
                "WWW-Authenticate": (
                    f'{_REALM}, error="insufficient_scope", scope="{" ".join(scopes)}"'
                )
            },
        )
    return principal


def _hospital(principal: Principal) -> HospitalCaller:
    # Only the role of hospitals has the scope that was asked for: a person never gets here.
    if principal.hospital_id is None or principal.token_id is None or principal.expires_at is None:
        raise Problem(
            403,
            "not-a-hospital",
            "The caller is no hospital",
            detail="this is for hospitals, with the client credentials they were given",
        )
    return HospitalCaller(
        principal.hospital_id, principal.subject, principal.token_id, principal.expires_at
    )


def _refuse_token(error: TokenRefused) -> NoReturn:
    raise _unauthorized(f"{error}; get a new one", f'{_REALM}, error="invalid_token"') from error


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(
        401,
        "unauthorized",
        "A valid token is needed",
        detail=detail,
        headers={"WWW-Authenticate": challenge},
    )


HospitalDep = Annotated[HospitalCaller, Depends(hospital_caller)]
