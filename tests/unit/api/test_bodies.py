from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.datastructures import Headers
from starlette.types import Message

from api.bodies import BodyLimit, announced_length, read_body, read_into
from api.errors import install_error_map
from db.blobs import PIECE_BYTES, BlobStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = FastAPI()
    install_error_map(app)

    @app.post("/json")
    def take_json(body: dict[str, str]) -> int:
        return len(body)

    @app.post("/bytes")
    async def take_bytes(request: Request) -> int:
        return len(await read_body(request, limit=10))

    @app.post("/blob")
    async def take_blob(request: Request) -> int:
        with BlobStore("memory://bodies").incoming() as blob:
            await read_into(blob, request, limit=10)
            return blob.size_bytes

    app.add_middleware(BodyLimit, limit_for=lambda path: 20 if path == "/json" else 100)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_takes_what_fits(client: httpx.AsyncClient) -> None:
    assert (await client.post("/json", json={"a": "b"})).json() == 1
    assert (await client.post("/bytes", content=b"0123456789")).json() == 10
    assert (await client.post("/bytes", content=chunks(b"01234", b"56789"))).json() == 10


async def test_a_large_body_goes_into_a_blob_piece_by_piece() -> None:
    blobs = BlobStore("memory://bodies")
    app = FastAPI()

    @app.post("/blob")
    async def take_blob(request: Request) -> str:
        with blobs.incoming() as blob:
            await read_into(blob, request, limit=3 * PIECE_BYTES)
            return blob.keep()

    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
    body = bytes(range(256)) * (PIECE_BYTES // 100)
    answer = await client.post("/blob", content=chunks(body[:100], body[100:5000], body[5000:]))
    assert blobs.get(answer.json()) == body


@pytest.mark.parametrize("path", ["/json", "/bytes", "/blob"])
async def test_refuses_by_the_announced_length(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, content=b"x" * 101)
    assert answer.status_code == 413
    assert answer.json()["type"] == "/problems/body-too-large"
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/json", [b'{"a":', b'"' + b"x" * 30 + b'"}']),
        ("/bytes", [b"01234", b"56789", b"!"]),
        ("/bytes", [b"x" * 101]),
        ("/blob", [b"01234", b"56789", b"!"]),
        ("/blob", [b"x" * 101]),
    ],
)
async def test_refuses_by_what_arrives(
    client: httpx.AsyncClient, path: str, parts: list[bytes]
) -> None:
    answer = await client.post(
        path, content=chunks(*parts), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


async def test_the_route_has_its_own_bound(client: httpx.AsyncClient) -> None:
    assert (await client.post("/bytes", content=b"x" * 11)).status_code == 413


@pytest.mark.parametrize(("value", "length"), [("7", 7), ("-1", 0), ("x", 0), ("²", 0), ("", 0)])
def test_reads_the_announced_length(value: str, length: int) -> None:
    assert announced_length(Headers({"content-length": value})) == length


async def test_leaves_other_traffic_alone() -> None:
    seen: list[str] = []

    async def app(scope: object, receive: object, send: object) -> None:
        seen.append("called")

    async def nothing(*_: object) -> Message:
        raise AssertionError("not asked")

    await BodyLimit(app, limit_for=lambda _: 0)({"type": "lifespan"}, nothing, nothing)
    assert seen == ["called"]
