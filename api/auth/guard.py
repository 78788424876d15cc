"""The dependencies that stand before a route: a valid token, a scope, a hospital of its own.

@router.get("/models")
def list_models(caller: Annotated[Principal, may(TRAINING_READ)]) -> ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Security
from fastapi.openapi.models import OAuthFlowClientCredentials, OAuthFlowPassword, OAuthFlows
from fastapi.security import OAuth2, SecurityScopes

from api.auth.scopes import EXCHANGE, SCOPES
from api.auth.tokens import Principal, TokenRefused
from api.errors import Problem
from api.services import Services, ServicesDep

TOKEN_PATH: Final = "/oauth/token"  # noqa: S105 - a path

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
    """A hospital that takes part in rounds."""

    hospital_id: str
    subject: str


def authenticate(
    required: SecurityScopes,
    services: ServicesDep,
    authorization: Annotated[str | None, Security(_SCHEME)],
) -> Principal:
    """Returns who calls.

    Raises:
        Problem: 401 without a valid token, 403 when it lacks a scope (RFC 6750, section 3).
    """
    return admit(services, authorization, scopes=required.scopes)


def admit(services: Services, authorization: str | None, *, scopes: Sequence[str]) -> Principal:
    """Returns who calls with this ``Authorization`` header, for callers outside of the routes.

    Reads the database: not to be called in the event loop.

    Raises:
        Problem: 401 without a valid token, 403 when it lacks a scope (RFC 6750, section 3).
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _unauthorized("send a token of POST /oauth/token as a bearer token", _REALM)
    try:
        principal = services.tokens.verify(token.strip())
    except TokenRefused as error:
        raise _unauthorized(
            f"{error}; get a new one", f'{_REALM}, error="invalid_token"'
        ) from error
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


def may(*scopes: str) -> Any:
    """The dependency on a caller with all of these scopes."""
    return Security(authenticate, scopes=list(scopes))


def admit_hospital(services: Services, authorization: str | None) -> HospitalCaller:
    """As `admit`, for a hospital that takes part in rounds."""
    return hospital_caller(admit(services, authorization, scopes=[EXCHANGE]))


def hospital_caller(principal: Annotated[Principal, may(EXCHANGE)]) -> HospitalCaller:
    """Returns the hospital that calls.

    Raises:
        Problem: 403, the token is not a hospital's.
    """
    if principal.hospital_id is None:
        raise Problem(
            403,
            "not-a-hospital",
            "The caller is no hospital",
            detail="this is for hospitals, with the client credentials they were given",
        )
    return HospitalCaller(principal.hospital_id, principal.subject)


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(
        401,
        "unauthorized",
        "A valid token is needed",
        detail=detail,
        headers={"WWW-Authenticate": challenge},
    )


HospitalDep = Annotated[HospitalCaller, Depends(hospital_caller)]
