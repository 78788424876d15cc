"""A hospital's access tokens: short-lived, renewed before they expire and when one is refused.

    auth = HospitalAuth(api_url, lambda: read_credential(settings))
    httpx.Client(auth=auth)      # the exchange's client, and Prefect's, through the gateway

The credential is read anew for every token, so that a rotated one is taken up without a restart.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Generator
from http import HTTPStatus
from typing import Final

import httpx
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from tasks.hospital.exchange_errors import CredentialRefused, ExchangeRefused

_MARGIN_S: Final = 30.0
_SECRET_BYTES: Final = 32
_REFUSED: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class Credential(BaseModel):
    """A hospital's OAuth 2.0 client credential."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    client_id: str
    client_secret: SecretStr

    def encode(self) -> bytes:
        """Returns the content of the file in which a hospital keeps it, the secret included."""
        secret = self.client_secret.get_secret_value()
        return json.dumps({"client_id": self.client_id, "client_secret": secret}).encode()


def new_client_secret() -> str:
    """Returns 256 random bits as text, made at the hospital."""
    return secrets.token_urlsafe(_SECRET_BYTES)


class IssuedToken(BaseModel):
    """An access token and when to renew it, in the clock's seconds.

    It is handed from a worker to its child, never written to disk or into an environment.
    """

    model_config = ConfigDict(frozen=True)

    value: str
    renew_at: float

    def __repr__(self) -> str:
        return f"IssuedToken(renew_at={self.renew_at})"


class _Grant(BaseModel):
    access_token: str
    expires_in: float


class HospitalAuth(httpx.Auth):
    """Signs requests in with the hospital's token, for synchronous and asynchronous clients.

    Tokens are fetched by the client that it signs in, so they go the way its requests go.

    Args:
        api_url: the coordinator's address.
        read_credential: returns the credential in force.
        clock: seconds; the same in a worker and its children.
        token: one that was issued before.

    Raises (from the request that it signs in):
        CredentialRefused: the coordinator issues no token.
        httpx.HTTPStatusError: its token endpoint fails, or is busy; worth another try.
    """

    requires_response_body = True

    def __init__(
        self,
        api_url: str,
        read_credential: Callable[[], Credential],
        *,
        clock: Callable[[], float] = time.time,
        token: IssuedToken | None = None,
    ) -> None:
        self._token_url = f"{api_url.rstrip('/')}/oauth/token"
        self._read_credential = read_credential
        self._clock = clock
        self.token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sends the request with a token; with a fresh one again if the first is refused."""
        token = self.token
        if token is None or token.renew_at <= self._clock():
            token = yield from self._sign_in()
        request.headers["Authorization"] = f"Bearer {token.value}"
        response = yield request
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            # Revoked, or signed by a key that has been retired.
            token = yield from self._sign_in()
            request.headers["Authorization"] = f"Bearer {token.value}"
            yield request

    def _sign_in(self) -> Generator[httpx.Request, httpx.Response, IssuedToken]:
        credential = self._read_credential()
        response = yield httpx.Request(
            "POST",
            self._token_url,
            data={
                "grant_type": "client_credentials",
                "client_id": credential.client_id,
                "client_secret": credential.client_secret.get_secret_value(),
            },
        )
        if response.status_code in _REFUSED:
            self.token = None
            raise CredentialRefused(
                f"client {credential.client_id!r}: the credential is not accepted"
                f"{_described(response)}"
            )
        response.raise_for_status()
        try:
            grant = _Grant.model_validate_json(response.content)
        except ValidationError:
            raise ExchangeRefused(f"{self._token_url}: the answer is not a token") from None
        lifetime_s = max(grant.expires_in - _MARGIN_S, 1.0)
        self.token = IssuedToken(value=grant.access_token, renew_at=self._clock() + lifetime_s)
        return self.token


def _described(response: httpx.Response) -> str:
    """What RFC 6749, section 5.2, lets the endpoint say, if it does."""
    try:
        description = response.json()["error_description"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f" ({str(description)[:200]})"
