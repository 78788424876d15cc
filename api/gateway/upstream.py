"""The calls to the Prefect server, with its own secret and nothing of the hospital's.

    upstream = Upstream(url, transport, secret="user:password")
    answer = await upstream.call("GET", f"/flow_runs/{run_id}")

It uses a transport and no client: a client would follow redirects, keep cookies for all hospitals
in one jar and cost half a millisecond a call, and a gateway wants none of these.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

import httpx
import orjson

from api.errors import Problem

_log = logging.getLogger(__name__)

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
_TIMEOUT: Final = httpx.Timeout(30.0, connect=3.0).as_dict()
# Prefect's server closes an idle connection after five seconds: it must not close one that is about
# to be used. A read that meets the end of a connection all the same is sent again.
_LIMITS: Final = httpx.Limits(
    max_connections=200, max_keepalive_connections=50, keepalive_expiry=4.0
)
_RETRIES: Final = 1
_PASSED_HEADERS: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        # By these two Prefect tells old clients apart.
        "user-agent": re.compile(r"prefect/[0-9A-Za-z.+]{1,40} \(API [0-9.]{1,20}\)", re.ASCII),
        "x-prefect-api-version": re.compile(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}", re.ASCII),
    }
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the Prefect server answered, of which nothing but this reaches a hospital."""

    status: int
    body: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether it is a success."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    def json(self) -> Any:
        """Returns the body.

        Raises:
            Problem: 503, it is no JSON.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise unavailable("Prefect did not answer with JSON") from error


def open_transport() -> httpx.AsyncHTTPTransport:
    """One pool of connections for all hospitals, kept open between calls."""
    return httpx.AsyncHTTPTransport(limits=_LIMITS, trust_env=False)


def passed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Returns the few headers of a hospital's that go upstream, where they look as they should."""
    return {
        name: value
        for name, pattern in _PASSED_HEADERS.items()
        if (value := headers.get(name)) is not None and pattern.fullmatch(value)
    }


class Upstream:
    """The Prefect server's API.

    Args:
        url: its address, ends in ``/api``.
        transport: carries the calls.
        secret: ``user:password`` when the server asks for one.
    """

    def __init__(
        self, url: str, transport: httpx.AsyncBaseTransport, *, secret: str | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._transport = transport
        self._headers = {"accept": "application/json", "accept-encoding": "identity"}
        if secret is not None:
            encoded = base64.b64encode(secret.encode()).decode()
            self._headers["authorization"] = f"Basic {encoded}"

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Answer:
        """Makes one call; ``path`` and ``body`` are the gateway's own, never a hospital's.

        Raises:
            Problem: 503, the server cannot be reached, failed, or refused the gateway itself.
        """
        sent = {**headers, **self._headers}
        if body is not None:
            sent["content-type"] = "application/json"
        attempts = 1 + (_RETRIES if method == "GET" else 0)
        for left in reversed(range(attempts)):
            request = httpx.Request(
                method,
                self._url + path,
                headers=sent,
                content=body,
                extensions={"timeout": _TIMEOUT},
            )
            try:
                return _checked(await self._send(request))
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                if not left:
                    raise _away(error) from error
            except httpx.TransportError as error:
                raise _away(error) from error
        raise AssertionError("a call has at least one attempt")

    async def _send(self, request: httpx.Request) -> Answer:
        response = await self._transport.handle_async_request(request)
        try:
            body = bytearray()
            assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - for mypy
            async for chunk in response.stream:
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise unavailable(f"Prefect answered with more than {MAX_ANSWER_BYTES} bytes")
            return Answer(response.status_code, bytes(body))
        finally:
            await response.aclose()


def unavailable(detail: str) -> Problem:
    """The Prefect server does not do its part; the hospital may try again."""
    return Problem(
        503,
        "prefect-unavailable",
        "Prefect is away",
        detail=detail,
        headers={"Retry-After": "2"},
    )


def _away(error: httpx.TransportError) -> Problem:
    _log.error("gateway: Prefect does not answer (%s)", type(error).__name__)
    return unavailable("Prefect does not answer; try again")


def _checked(answer: Answer) -> Answer:
    """Passes successes and what Prefect says about a request; not what concerns the gateway."""
    match answer.status:
        case 401 | 407:
            _log.error("gateway: Prefect refuses the gateway's own secret (%s)", answer.status)
        case status if status < HTTPStatus.OK or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("gateway: Prefect failed with %s", status)
        case status if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            _log.error("gateway: Prefect redirects (%s)", status)
        case _:
            return answer
    raise unavailable("Prefect failed; try again")
