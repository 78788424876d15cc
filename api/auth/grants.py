"""The token endpoint's rules (RFC 6749): who may have a token, for which scopes.

form = parse_form(content_type, body)
asked = Asked(form, authorization=None, peer="203.0.113.7")
grant = grant_to_user(engine, passwords, asked, now=now)  # grant_type=password
grant = grant_to_client(engine, asked, now=now)           # grant_type=client_credentials
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, unquote_plus

from sqlalchemy.engine import Engine

from api.auth.passwords import Passwords, WrongSecret, verify_secret
from api.auth.scopes import HOSPITAL, ScopeRefused, narrow
from api.auth.throttle import Throttle, TooManyFailures, account, address, client, throttled
from api.auth.tokens import HOSPITAL_PREFIX, USER_PREFIX
from db.errors import NotFound
from db.models import Client, Hospital, User
from db.queries import credentials, hospitals, users
from db.session import transaction

FORM: Final = "application/x-www-form-urlencoded"
_MAX_FIELDS: Final = 20
_MAX_FIELD_CHARACTERS: Final = 1024
_MAX_TOKEN_CHARACTERS: Final = 8 * 1024
Form = Mapping[str, str]
Clock = Callable[[], datetime]


class OAuthError(Exception):
    """An error answer of the token endpoint (RFC 6749, section 5.2)."""

    def __init__(
        self,
        error: str,
        description: str,
        *,
        status: int = HTTPStatus.BAD_REQUEST,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers or {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request to the token endpoint.

    Attributes:
        form: its fields.
        authorization: its ``Authorization`` header.
        peer: the address it comes from, for throttling.
    """

    form: Form = field(repr=False)
    authorization: str | None = field(repr=False)
    peer: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token will say."""

    subject: str
    scopes: frozenset[str]
    generation: int
    hospital_id: str | None = None
    client_id: str | None = None


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
    if any("\0" in value or len(value) > _longest(name) for name, value in fields.items()):
        raise OAuthError("invalid_request", "a field is too long or holds a zero character")
    return {name: value for name, value in fields.items() if value}


def grant_to_user(engine: Engine, passwords: Passwords, asked: Asked, *, now: Clock) -> Grant:
    """The resource owner password grant (RFC 6749, section 4.3).

    Raises:
        OAuthError: a field is missing, the password is wrong, a scope is not the role's, the user
            is suspended, or the account or the address has to wait after failures.
    """
    username, password = _required(asked.form, "username"), _required(asked.form, "password")
    wrong = OAuthError("invalid_grant", "the username or the password is wrong")
    with _throttled(engine, [account(username), address(asked.peer)], now=now, wrong=wrong):
        user = _find_user(engine, username)
        passwords.verify(user.password_hash if user else None, password)
    assert user is not None  # noqa: S101 - without a user, no password is the right one
    if user.state != "active":
        raise OAuthError("invalid_grant", f"{username} is suspended: ask an operator")
    return Grant(f"{USER_PREFIX}{user.username}", _scopes(user.role, asked.form), user.generation)


def grant_to_client(engine: Engine, asked: Asked, *, now: Clock) -> Grant:
    """The client credentials grant (RFC 6749, section 4.4), for hospitals.

    Raises:
        OAuthError: no credentials or wrong ones, a hospital that is not active, a scope too many,
            or the client has to wait after failures.
    """
    known, hospital = authenticate_client(engine, asked, now=now)
    if hospital.state != "active":
        raise OAuthError("unauthorized_client", f"the hospital {hospital.id} is {hospital.state}")
    return Grant(
        f"{HOSPITAL_PREFIX}{hospital.id}",
        _scopes(HOSPITAL, asked.form),
        known.generation,
        hospital.id,
        known.client_id,
    )


def authenticate_client(engine: Engine, asked: Asked, *, now: Clock) -> tuple[Client, Hospital]:
    """Returns the client that a request is of, with its hospital (RFC 6749, section 2.3.1).

    Raises:
        OAuthError: no credentials or wrong ones, or the client has to wait after failures.
    """
    client_id, secret = _client_credentials(asked.form, asked.authorization)
    wrong = _invalid_client("the client is unknown or its secret is wrong")
    with _throttled(engine, [client(client_id, asked.peer)], now=now, wrong=wrong):
        known = _find_client(engine, client_id)
        verify_secret(known.secret_digest if known else None, secret)
    assert known is not None  # noqa: S101 - without a client, no secret is the right one
    with transaction(engine) as session:
        return known, hospitals.get_hospital(session, known.hospital_id)


@contextmanager
def _throttled(
    engine: Engine, throttles: Sequence[Throttle], *, now: Clock, wrong: OAuthError
) -> Iterator[None]:
    """Lets the block try a password or a secret; answers in the form of RFC 6749."""
    try:
        with throttled(engine, throttles, now=now, failure=WrongSecret):
            yield
    except TooManyFailures as error:
        raise OAuthError(
            "temporarily_unavailable",
            str(error),
            status=HTTPStatus.TOO_MANY_REQUESTS,
            headers={"Retry-After": str(error.retry_after_s)},
        ) from None
    except WrongSecret:
        raise wrong from None


def _longest(name: str) -> int:
    return _MAX_TOKEN_CHARACTERS if name == "token" else _MAX_FIELD_CHARACTERS


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
    return OAuthError(
        "invalid_client",
        description,
        status=HTTPStatus.UNAUTHORIZED,
        headers={"WWW-Authenticate": 'Basic realm="fedmed", charset="UTF-8"'},
    )


def _find_user(engine: Engine, username: str) -> User | None:
    try:
        with transaction(engine) as session:
            return users.get_user(session, username)
    except NotFound:
        return None


def _find_client(engine: Engine, client_id: str) -> Client | None:
    try:
        with transaction(engine) as session:
            return credentials.get_client(session, client_id)
    except NotFound:
        return None
