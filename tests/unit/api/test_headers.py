"""The headers that every answer carries."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api.headers import SecurityHeaders

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def headers(kind: str | None, *, https: bool = True, **own: str) -> httpx.Headers:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        named = {**({} if kind is None else {"content-type": kind}), **own}
        pairs = [(name.encode(), value.encode()) for name, value in named.items()]
        await send({"type": "http.response.start", "status": 200, "headers": pairs})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(SecurityHeaders(app, https=https))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        return (await client.get("/")).headers


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream", None])
async def test_an_answer_is_kept_by_nobody_and_loads_nothing(kind: str | None) -> None:
    found = await headers(kind)
    assert found["Cache-Control"] == "no-store"
    assert found["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert found["X-Content-Type-Options"] == "nosniff"
    assert found["Referrer-Policy"] == "no-referrer"
    assert found["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "text/javascript", "image/png"])
async def test_the_documentation_may_be_kept_and_run(kind: str) -> None:
    found = await headers(kind)
    assert "Cache-Control" not in found
    assert "Content-Security-Policy" not in found
    assert found["X-Frame-Options"] == "DENY"


async def test_what_a_route_has_set_stays() -> None:
    found = await headers("application/json", **{"cache-control": "max-age=60"})
    assert found["Cache-Control"] == "max-age=60"


async def test_strict_transport_security_is_sent_with_https_alone() -> None:
    assert (await headers("text/html"))["Strict-Transport-Security"] == "max-age=31536000"
    assert "Strict-Transport-Security" not in await headers("text/html", https=False)
