"""The hospital's client of the exchange: outbound HTTP to one host, nothing else.

    with ExchangeClient.connect(api_url, credential) as exchange:
        exchange.put(round_id, "enrolment", body)
        cohort = exchange.wait_for(round_id, "cohort", timeout_s=60)

A lost connection and a busy server are retried; an answer that is final is raised.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import tenacity
from pydantic import BaseModel, ConfigDict, SecretStr, TypeAdapter, ValidationError

from fl.invitation import HospitalId, Key

HospitalKind = Literal["enrolment", "upload", "echo", "reveal", "refusal"]
CoordinatorKind = Literal["cohort", "survivors", "certificate"]

LONG_POLL_S: Final = 25.0
RETRY_FOR_S: Final = 20.0
_TOKEN_MARGIN_S: Final = 30.0
# Of a Unix socket, whose own is small: an upload of 44 MB takes a tenth of the time.
_LARGE_SEND_BUFFER: Final = (socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)


class ExchangeError(Exception):
    """Base of what the exchange may answer."""


class ExchangeRefused(ExchangeError):
    """The exchange refused a request for good; the text gives its problem."""


class RoundClosed(ExchangeError):
    """The coordinator has closed the round; the text gives its reason."""


class ExchangeTimeout(ExchangeError):
    """What a hospital waited for did not come in time."""


class Credential(BaseModel):
    """A hospital's OAuth 2.0 client credential."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    client_id: str
    client_secret: SecretStr


class PublishedIdentity(BaseModel):
    """A hospital and the public keys it has published, hex, as the coordinator shows them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    hospital_id: HospitalId
    signing_key: Key
    sealing_key: Key


_ROSTER: Final = TypeAdapter(tuple[PublishedIdentity, ...])


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    expires_at: float


def _is_worth_retrying(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
    return isinstance(error, httpx.TransportError)


class ExchangeClient:
    """One hospital's connection to the exchange; not shared between threads."""

    def __init__(
        self,
        client: httpx.Client,
        credential: Credential,
        *,
        clock: Callable[[], float] = time.monotonic,
        retry_for_s: float = RETRY_FOR_S,
    ) -> None:
        self._client = client
        self._credential = credential
        self._clock = clock
        self._token: _Token | None = None
        self._retry = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_worth_retrying),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=2.0),
            stop=tenacity.stop_after_delay(retry_for_s),
            reraise=True,
        )

    @classmethod
    def connect(
        cls,
        api_url: str,
        credential: Credential,
        *,
        uds: Path | None = None,
        retry_for_s: float = RETRY_FOR_S,
    ) -> Self:
        """Opens a client for the API at ``api_url``; ``uds`` is a Unix socket that leads there.

        TLS is spoken through the socket, with the host of ``api_url``.
        """
        client = httpx.Client(
            base_url=api_url,
            timeout=httpx.Timeout(10.0, read=LONG_POLL_S + 10.0),
            trust_env=False,
            transport=httpx.HTTPTransport(
                verify=_tls(api_url),
                trust_env=False,
                uds=None if uds is None else str(uds),
                socket_options=None if uds is None else [_LARGE_SEND_BUFFER],
            ),
        )
        return cls(client, credential, retry_for_s=retry_for_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def put(self, round_id: UUID, kind: HospitalKind, body: bytes) -> None:
        """Posts one of the hospital's messages; repeating the same one is harmless.

        Raises:
            RoundClosed: the coordinator has closed the round.
            ExchangeRefused: the message was refused.
        """
        self._request(
            "PUT",
            f"/exchange/rounds/{round_id}/{kind}",
            content=body,
            headers={
                "Content-Type": "application/octet-stream",
                "X-Content-SHA256": hashlib.sha256(body).hexdigest(),
            },
        )

    def wait_for(self, round_id: UUID, kind: CoordinatorKind, *, timeout_s: float) -> bytes:
        """Returns the coordinator's message to this hospital once it is there.

        Raises:
            RoundClosed: the coordinator has closed the round.
            ExchangeTimeout: ``timeout_s`` seconds have passed.
        """
        deadline = self._clock() + timeout_s
        while (left := deadline - self._clock()) > 0:
            response = self._request(
                "GET",
                f"/exchange/rounds/{round_id}/{kind}",
                params={"wait_s": min(left, LONG_POLL_S)},
            )
            if response.status_code == HTTPStatus.OK:
                return response.content
        raise ExchangeTimeout(f"no {kind} message for round {round_id} after {timeout_s:.0f} s")

    def weights(self, digest: str) -> bytes:
        """Returns the encoded weights with this SHA-256, hex.

        Raises:
            ExchangeRefused: not weights of a round this hospital is invited to, or altered.
        """
        body = self._request("GET", f"/exchange/weights/{digest}").content
        found = hashlib.sha256(body).hexdigest()
        if found != digest:
            raise ExchangeRefused(f"weights {digest} arrived with SHA-256 {found}")
        return body

    def publish_identity(self, hospital_id: str, *, signing_key: str, sealing_key: str) -> None:
        """Publishes the hospital's public identity keys, hex; a change of keys is refused.

        Raises:
            ExchangeRefused: the coordinator knows other keys of this hospital.
        """
        keys = {"signing_key": signing_key, "sealing_key": sealing_key}
        self._request("PUT", f"/hospitals/{hospital_id}/identity", json=keys)

    def roster(self) -> tuple[PublishedIdentity, ...]:
        """Returns the hospitals that rounds invite, with the keys the coordinator shows for them.

        Raises:
            ExchangeRefused: this hospital is suspended, or the answer is not a roster.
        """
        try:
            roster = _ROSTER.validate_json(self._request("GET", "/exchange/roster").content)
        except ValidationError:
            raise ExchangeRefused("GET /exchange/roster: the answer is not a roster") from None
        if len({entry.hospital_id for entry in roster}) != len(roster):
            raise ExchangeRefused("GET /exchange/roster: a hospital is shown twice")
        return roster

    def await_work(self, *, after: str | None) -> str | None:
        """Waits for a dispatch to this hospital; returns its round's id, or None after a while.

        ``after`` is the last round id this returned, so that no dispatch is seen twice or missed.
        """
        params: dict[str, str | float] = {"wait_s": LONG_POLL_S}
        if after is not None:
            params["after"] = after
        response = self._request("GET", "/exchange/work", params=params)
        return response.json()["round_id"] if response.status_code == HTTPStatus.OK else None

    def _request(self, method: str, path: str, **options: object) -> httpx.Response:
        return self._retry(self._request_once, method, path, options)

    def _request_once(self, method: str, path: str, options: dict[str, object]) -> httpx.Response:
        headers = {**dict(options.get("headers") or {}), "Authorization": self._authorization()}  # type: ignore[call-overload]
        response = self._client.request(method, path, **{**options, "headers": headers})  # type: ignore[arg-type]
        if response.status_code == HTTPStatus.UNAUTHORIZED and self._token is not None:
            # Revoked or signed by a key that has been rotated: ask once for a fresh one.
            self._token = None
            headers["Authorization"] = self._authorization()
            response = self._client.request(method, path, **{**options, "headers": headers})  # type: ignore[arg-type]
        return _accepted(response)

    def _authorization(self) -> str:
        if self._token is None or self._token.expires_at < self._clock():
            response = self._client.post(
                "/oauth/token",
                data={
                    "grant_type": "client_credentials",
                    "client_id": self._credential.client_id,
                    "client_secret": self._credential.client_secret.get_secret_value(),
                },
            )
            if response.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED):
                raise ExchangeRefused(
                    f"client {self._credential.client_id!r}: the credential is not accepted"
                )
            grant = _accepted(response).json()
            lifetime_s = max(float(grant["expires_in"]) - _TOKEN_MARGIN_S, 1.0)
            self._token = _Token(str(grant["access_token"]), self._clock() + lifetime_s)
        return f"Bearer {self._token.value}"


def _tls(api_url: str) -> ssl.SSLContext:
    """The certificates to trust; for a plain address none, since loading them takes a while."""
    if urlsplit(api_url).scheme == "https":
        return ssl.create_default_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _accepted(response: httpx.Response) -> httpx.Response:
    """Returns the response when it is a success; raises what it says otherwise."""
    if response.is_success:
        return response
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        response.raise_for_status()
    detail = _problem(response)
    if response.status_code == HTTPStatus.GONE:
        raise RoundClosed(detail)
    raise ExchangeRefused(f"{response.request.method} {response.request.url.path}: {detail}")


def _problem(response: httpx.Response) -> str:
    """Returns the detail of an RFC 9457 problem, or the status when there is none."""
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        problem = response.json()
        return str(problem.get("detail") or problem.get("title") or response.status_code)
    return f"HTTP {response.status_code}"
