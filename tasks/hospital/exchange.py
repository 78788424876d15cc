"""The hospital's client of the exchange: outbound HTTP to one host, nothing else.

    with ExchangeClient.connect(settings.way, site.auth) as exchange:
        exchange.put(round_id, "enrolment", body)
        cohort = exchange.wait_for(round_id, "cohort", timeout_s=60)

A lost connection and a busy server are retried; an answer that is final is raised.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

import httpx
import tenacity
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fl.invitation import Digest, HospitalId, Key
from fl.spec import ModelName, ModelSpec
from tasks.hospital.exchange_errors import (
    ExchangeRefused,
    ExchangeTimeout,
    ExchangeUntrusted,
    RoundClosed,
)
from tasks.hospital.tls import AddressRefused, tls_problem
from tasks.hospital.tokens import HospitalAuth
from tasks.hospital.way import Way

HospitalKind = Literal["enrolment", "upload", "echo", "reveal", "refusal"]
CoordinatorKind = Literal["cohort", "survivors", "certificate"]

LONG_POLL_S: Final = 25.0
RETRY_FOR_S: Final = 20.0
_TIMEOUT: Final = httpx.Timeout(10.0, read=LONG_POLL_S + 10.0)


class PublishedIdentity(BaseModel):
    """A hospital and the public keys it has published, hex, as the coordinator shows them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    hospital_id: HospitalId
    signing_key: Key
    sealing_key: Key


class OfferedModel(BaseModel):
    """A model that the coordinator has registered."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: ModelName
    version: int
    spec: ModelSpec


class TrainingFigures(BaseModel):
    """What a training's closing evaluation has measured on all hospitals together.

    Without one all but the first fields are empty.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    training_id: UUID
    model: ModelName
    version: int
    state: Annotated[str, Field(max_length=64)]
    epsilon: float | None = None
    delta: float | None = None
    weights: Digest | None = None
    metrics: dict[str, Any] = {}
    hospitals: int | None = None
    closed_at: AwareDatetime | None = None


_ROSTER: Final = TypeAdapter(tuple[PublishedIdentity, ...])
_MODELS: Final = TypeAdapter(tuple[OfferedModel, ...])


def _is_worth_retrying(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
    # What is wrong with a certificate is wrong at the next try too.
    return isinstance(error, httpx.TransportError) and tls_problem(error) is None


class ExchangeClient:
    """One hospital's connection to the exchange; not shared between threads."""

    def __init__(
        self,
        client: httpx.Client,
        *,
        clock: Callable[[], float] = time.monotonic,
        retry_for_s: float = RETRY_FOR_S,
    ) -> None:
        self._client = client
        self._clock = clock
        self._retry = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_worth_retrying),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=2.0),
            stop=tenacity.stop_after_delay(retry_for_s),
            reraise=True,
        )

    @classmethod
    def connect(cls, way: Way, auth: HospitalAuth, *, retry_for_s: float = RETRY_FOR_S) -> Self:
        """Opens a client for the coordinator's API.

        Raises:
            ExchangeUntrusted: the credential must not be sent to that address.
        """
        try:
            client = way.client(auth=auth, timeout=_TIMEOUT)
        except AddressRefused as error:
            raise ExchangeUntrusted(str(error)) from None
        return cls(client, retry_for_s=retry_for_s)

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

    def models(self) -> tuple[OfferedModel, ...]:
        """Returns all versions of the models that the coordinator has registered.

        Raises:
            ExchangeRefused: this hospital is suspended, or the answer holds no models.
        """
        try:
            return _MODELS.validate_json(self._request("GET", "/exchange/models").content)
        except ValidationError:
            raise ExchangeRefused("GET /exchange/models: the answer holds no models") from None

    def figures(self, training_id: UUID) -> TrainingFigures:
        """Returns what a training has measured on all hospitals together.

        Raises:
            ExchangeRefused: this hospital was never invited to it or is suspended, or the answer
                holds no figures of it.
        """
        path = f"/exchange/trainings/{training_id}/figures"
        try:
            found = TrainingFigures.model_validate_json(self._request("GET", path).content)
        except ValidationError:
            raise ExchangeRefused(f"GET {path}: the answer holds no figures") from None
        if found.training_id != training_id:
            raise ExchangeRefused(f"GET {path}: the answer is of training {found.training_id}")
        return found

    def replace_identity(self, hospital_id: str, replacement: dict[str, str]) -> None:
        """Publishes new identity keys, signed by the old and the new one; see `fl.joining`.

        Raises:
            ExchangeRefused: a signature does not verify, or a round is open for this hospital.
        """
        self._request("POST", f"/hospitals/{hospital_id}/identity", json=replacement)

    def replace_secret(self, hospital_id: str, *, digest: str) -> None:
        """Has the coordinator take the client secret with this SHA-256, hex, from now on.

        Raises:
            ExchangeRefused: this hospital is suspended.
        """
        body = {"client_secret_sha256": digest}
        self._request("PUT", f"/hospitals/{hospital_id}/credential", json=body)

    def leave(self, hospital_id: str) -> None:
        """Ends this hospital's membership; its credential is dead afterwards."""
        self._request("POST", f"/hospitals/{hospital_id}/leave")

    def _request(self, method: str, path: str, **options: object) -> httpx.Response:
        try:
            return self._retry(self._request_once, method, path, options)
        except httpx.TransportError as error:
            raise self._untrusted(error) or error from None

    def _untrusted(self, error: httpx.TransportError) -> ExchangeUntrusted | None:
        problem = tls_problem(error)
        return ExchangeUntrusted(f"{self._client.base_url}: {problem}") if problem else None

    def _request_once(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        return _accepted(self._client.request(method, path, **options))


def _accepted(response: httpx.Response) -> httpx.Response:
    """Returns the response when it is a success; raises what it says otherwise."""
    if response.is_success:
        return response
    if (
        response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
        or response.status_code == HTTPStatus.TOO_MANY_REQUESTS
    ):
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
