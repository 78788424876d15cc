"""Tokens (RFC 6749) and the key that verifies them (RFC 7517)."""

from __future__ import annotations

from typing import Any, Final

from anyio import to_thread
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from api.auth.grants import (
    FORM,
    Form,
    Grant,
    OAuthError,
    grant_to_client,
    grant_to_user,
    parse_form,
)
from api.auth.guard import TOKEN_PATH
from api.bodies import read_body
from api.schemas import TokenResponse
from api.services import Services, ServicesDep

router = APIRouter(tags=["sign-in"])

_MAX_FORM_BYTES: Final = 16 * 1024
_NO_STORE: Final = {"Cache-Control": "no-store"}
_TEXT: Final = {"type": "string"}
_FORM_SCHEMA: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {**_TEXT, "enum": ["password", "client_credentials"]},
                        "username": _TEXT,
                        "password": {**_TEXT, "format": "password"},
                        "client_id": _TEXT,
                        "client_secret": {**_TEXT, "format": "password"},
                        "scope": {**_TEXT, "description": "Narrows the token, space-separated."},
                    },
                }
            }
        },
    }
}
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


@router.post(
    TOKEN_PATH,
    summary="Get an access token",
    openapi_extra=_FORM_SCHEMA,
    responses={400: _OAUTH_ERROR, 401: _OAUTH_ERROR, 429: _OAUTH_ERROR},
)
async def token(request: Request, response: Response, services: ServicesDep) -> TokenResponse:
    """Issues a token to a person (``password``) or a hospital (``client_credentials``)."""
    body = await read_body(request, limit=_MAX_FORM_BYTES)
    form = parse_form(request.headers.get("content-type", ""), body)
    grant = await _grant(services, form, request.headers.get("authorization"))
    response.headers.update(_NO_STORE)
    return TokenResponse(
        access_token=services.tokens.issue(
            subject=grant.subject, scopes=grant.scopes, hospital_id=grant.hospital_id
        ),
        expires_in=services.tokens.lifetime_s,
        scope=" ".join(sorted(grant.scopes)),
    )


@router.get("/.well-known/jwks.json", summary="The key that verifies access tokens")
async def jwks(services: ServicesDep) -> dict[str, list[dict[str, str]]]:
    """The public key as a JSON Web Key Set."""
    return services.signing_key.jwks()


async def _grant(services: Services, form: Form, authorization: str | None) -> Grant:
    match form.get("grant_type"):
        case "password":
            return await to_thread.run_sync(
                grant_to_user,
                services.engine,
                services.passwords,
                form,
                limiter=services.password_slots,
            )
        case "client_credentials":
            return await to_thread.run_sync(grant_to_client, services.engine, form, authorization)
        case None:
            raise OAuthError("invalid_request", "grant_type is missing")
        case _:
            raise OAuthError(
                "unsupported_grant_type", "grant_type is password or client_credentials"
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
