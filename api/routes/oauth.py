"""Tokens (RFC 6749), their revocation (RFC 7009) and the keys that verify them (RFC 7517)."""

from __future__ import annotations

from typing import Any, Final

from anyio import to_thread
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from api.auth.addresses import peer_of
from api.auth.grants import (
    FORM,
    Asked,
    Grant,
    OAuthError,
    authenticate_client,
    grant_to_client,
    grant_to_user,
    parse_form,
)
from api.auth.guard import REVOKE_PATH, TOKEN_PATH, admit
from api.auth.revocation import revoke
from api.auth.tokens import HOSPITAL_PREFIX
from api.bodies import read_body
from api.schemas.people import TokenResponse
from api.services import Services, ServicesDep

router = APIRouter(tags=["sign-in"])

_MAX_FORM_BYTES: Final = 16 * 1024
_NO_STORE: Final = {"Cache-Control": "no-store"}
# A verifier that finds a token's key missing asks again at once.
_KEYS_MAY_BE_KEPT: Final = {"Cache-Control": "public, max-age=300"}
_TEXT: Final = {"type": "string"}
# RFC 6749, section 5.2, not a problem document.
_OAUTH_ERROR: Final[dict[str, Any]] = {
    "description": "The request is not granted (RFC 6749, section 5.2)",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": _TEXT, "error_description": _TEXT},
            }
        }
    },
}
_OAUTH_ERRORS: Final[dict[int | str, Any]] = dict.fromkeys((400, 401, 429), _OAUTH_ERROR)
_SECRET: Final = {**_TEXT, "format": "password"}


def _form_schema(required: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "required": [required], "properties": properties}
    return {"requestBody": {"required": True, "content": {FORM: {"schema": schema}}}}


@router.post(
    TOKEN_PATH,
    summary="Get an access token",
    openapi_extra=_form_schema(
        "grant_type",
        grant_type={**_TEXT, "enum": ["password", "client_credentials"]},
        username=_TEXT,
        password=_SECRET,
        client_id=_TEXT,
        client_secret=_SECRET,
        scope={**_TEXT, "description": "Narrows the token, space-separated."},
    ),
    responses=_OAUTH_ERRORS,
)
async def token(request: Request, response: Response, services: ServicesDep) -> TokenResponse:
    """Issues a token to a person (``password``) or a hospital (``client_credentials``)."""
    grant = await _grant(services, await _asked(request, services))
    response.headers.update(_NO_STORE)
    return TokenResponse(
        access_token=services.tokens.issue(
            subject=grant.subject,
            scopes=grant.scopes,
            generation=grant.generation,
            hospital_id=grant.hospital_id,
            client_id=grant.client_id,
        ),
        expires_in=services.tokens.lifetime_s(hospital_id=grant.hospital_id),
        scope=" ".join(sorted(grant.scopes)),
    )


@router.post(
    REVOKE_PATH,
    summary="Take an access token back",
    response_class=Response,
    openapi_extra=_form_schema(
        "token", token=_SECRET, token_type_hint=_TEXT, client_id=_TEXT, client_secret=_SECRET
    ),
    responses=_OAUTH_ERRORS,
)
async def revoke_token(request: Request, services: ServicesDep) -> Response:
    """Has a token of the caller's own refused from now on; 200 too when it is none of ours.

    A hospital authenticates with its client credentials, a person with a token.
    """
    asked = await _asked(request, services)
    if "token" not in asked.form:
        raise OAuthError("invalid_request", "token is missing")
    await to_thread.run_sync(_revoke, services, asked)
    return Response(headers=_NO_STORE)


@router.get("/.well-known/jwks.json", summary="The keys that verify access tokens")
async def jwks(response: Response, services: ServicesDep) -> dict[str, list[dict[str, str]]]:
    """The public keys as a JSON Web Key Set."""
    response.headers.update(_KEYS_MAY_BE_KEPT)
    return services.keys.jwks()


async def _asked(request: Request, services: Services) -> Asked:
    body = await read_body(request, limit=_MAX_FORM_BYTES)
    return Asked(
        form=parse_form(request.headers.get("content-type", ""), body),
        authorization=request.headers.get("authorization"),
        peer=peer_of(request, services.settings.trusted_proxies),
    )


async def _grant(services: Services, asked: Asked) -> Grant:
    match asked.form.get("grant_type"):
        case "password":
            return await to_thread.run_sync(
                _grant_to_user, services, asked, limiter=services.password_slots
            )
        case "client_credentials":
            return await to_thread.run_sync(_grant_to_client, services, asked)
        case None:
            raise OAuthError("invalid_request", "grant_type is missing")
        case _:
            raise OAuthError(
                "unsupported_grant_type", "grant_type is password or client_credentials"
            )


def _grant_to_user(services: Services, asked: Asked) -> Grant:
    return grant_to_user(services.engine, services.passwords, asked, now=services.now)


def _grant_to_client(services: Services, asked: Asked) -> Grant:
    return grant_to_client(services.engine, asked, now=services.now)


def _revoke(services: Services, asked: Asked) -> None:
    if (asked.authorization or "").lower().startswith("bearer "):
        caller = admit(services, asked.authorization, scopes=[]).subject
    else:
        _, hospital = authenticate_client(services.engine, asked, now=services.now)
        caller = f"{HOSPITAL_PREFIX}{hospital.id}"
    revoke(
        services.engine,
        services.standings,
        services.tokens,
        asked.form["token"],
        caller=caller,
        now=services.now(),
    )


async def _answer_oauth_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OAuthError)  # noqa: S101 - it is registered for this class only
    return JSONResponse(
        {"error": error.error, "error_description": error.description},
        status_code=error.status,
        headers={**_NO_STORE, **error.headers},
    )


def install_oauth_errors(app: FastAPI) -> None:
    """Answers the token endpoint's errors in the form of RFC 6749, section 5.2."""
    app.add_exception_handler(OAuthError, _answer_oauth_error)
