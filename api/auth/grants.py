"""The token endpoint's rules (RFC 6749): who may have a token, for which scopes.

form = parse_form(content_type, body)
grant = grant_to_user(engine, passwords, form)        # grant_type=password
grant = grant_to_client(engine, form, authorization)  # grant_type=client_credentials
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, unquote_plus

from sqlalchemy.engine import Engine

from api.auth.passwords import Passwords, WrongSecret, verify_secret
from api.auth.scopes import HOSPITAL, ScopeRefused, narrow
from db.errors import NotFound
from db.models import Client, User
from db.queries import credentials, hospitals
from db.session import transaction

FORM: Final = "application/x-www-form-urlencoded"
_MAX_FIELDS: Final = 20
_MAX_FIELD_CHARACTERS: Final = 1024
Form = Mapping[str, str]


class OAuthError(Exception):
    """An error answer of the token endpoint (RFC 6749, section 5.2)."""

    def __init__(
        self, error: str, description: str, *, status: int = HTTPStatus.BAD_REQUEST
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status
        challenge = {"WWW-Authenticate": 'Basic realm="fedmed", charset="UTF-8"'}
        self.headers = challenge if status == HTTPStatus.UNAUTHORIZED else {}


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token will say."""

    subject: str
    scopes: frozenset[str]
    hospital_id: str | None = None


def parse_form(content_type: str, body: bytes) -> Form:
    """Returns the fields of a form; empty ones count as left out (RFC 6749, section 3.1).

    Raises:
        OAuthError: another media type, a field twice, or something unreadable.
    """
    if content_type.partition(";")[0].strip().lower() != FORM:
        raise OAuthError("invalid_request", f"send the request as {FORM}")
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=_MAX_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise OAuthError("invalid_request", "the form cannot be read") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise OAuthError("invalid_request", "a field is given twice")
    if any(len(value) > _MAX_FIELD_CHARACTERS or "\0" in value for value in fields.values()):
        raise OAuthError("invalid_request", "a field is too long or holds a zero character")
    return {name: value for name, value in fields.items() if value}


def grant_to_user(engine: Engine, passwords: Passwords, form: Form) -> Grant:
    """The resource owner password grant (RFC 6749, section 4.3).

    Raises:
        OAuthError: a field is missing, the password is wrong, or a scope is not the role's.
    """
    username, password = _required(form, "username"), _required(form, "password")
    user = _find_user(engine, username)
    try:
        passwords.verify(user.password_hash if user else None, password)
    except WrongSecret:
        user = None
    if user is None:
        raise OAuthError("invalid_grant", "the username or the password is wrong")
    return Grant(f"user:{user.username}", _scopes(user.role, form))


def grant_to_client(engine: Engine, form: Form, authorization: str | None) -> Grant:
    """The client credentials grant (RFC 6749, section 4.4), for hospitals.

    Raises:
        OAuthError: no credentials or wrong ones, a suspended hospital, or a scope too many.
    """
    client_id, secret = _client_credentials(form, authorization)
    client = _find_client(engine, client_id)
    try:
        verify_secret(client.secret_digest if client else None, secret)
    except WrongSecret:
        client = None
    if client is None:
        raise _invalid_client("the client is unknown or its secret is wrong")
    with transaction(engine) as session:
        hospital = hospitals.get_hospital(session, client.hospital_id)
    if hospital.state != "active":
        raise OAuthError("unauthorized_client", f"the hospital {hospital.id} is {hospital.state}")
    return Grant(f"hospital:{hospital.id}", _scopes(HOSPITAL, form), hospital.id)


def _required(form: Form, name: str) -> str:
    if name not in form:
        raise OAuthError("invalid_request", f"{name} is missing")
    return form[name]


def _scopes(role: str, form: Form) -> frozenset[str]:
    try:
        return narrow(role, form.get("scope"))
    except ScopeRefused as error:
        raise OAuthError("invalid_scope", str(error)) from None


def _client_credentials(form: Form, authorization: str | None) -> tuple[str, str]:
    """Returns id and secret, from HTTP Basic or from the form, not from both."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        if "client_id" not in form or "client_secret" not in form:
            raise _invalid_client("send client_id and client_secret")
        return form["client_id"], form["client_secret"]
    if "client_secret" in form:
        raise OAuthError("invalid_request", "the client authenticates in two ways")
    try:
        client_id, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        raise _invalid_client("the Authorization header cannot be read") from None
    if not colon or "\0" in unquote_plus(client_id):
        raise _invalid_client("the Authorization header cannot be read")
    return unquote_plus(client_id), unquote_plus(secret)


def _invalid_client(description: str) -> OAuthError:
    return OAuthError("invalid_client", description, status=HTTPStatus.UNAUTHORIZED)


def _find_user(engine: Engine, username: str) -> User | None:
    try:
        with transaction(engine) as session:
            return credentials.get_user(session, username)
    except NotFound:
        return None


def _find_client(engine: Engine, client_id: str) -> Client | None:
    try:
        with transaction(engine) as session:
            return credentials.get_client(session, client_id)
    except NotFound:
        return None
