"""Bodies of bounded size.

    body = await read_body(request, limit=1024 * 1024)
    await read_into(blob, request, limit=256 * 1024 * 1024)

The announced length is checked first; what really arrives is counted as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import Problem, problem_response
from db.blobs import PIECE_BYTES, IncomingBlob


def too_large(limit: int) -> Problem:
    """The body is longer than is taken here."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        "The body is too large",
        detail=f"at most {limit} bytes are taken here",
        # The rest of the body stays unread.
        headers={"Connection": "close"},
    )


def announced_length(headers: Headers) -> int:
    """Returns the announced length; 0 when there is none or it is not a number."""
    length = headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0


async def read_body(request: Request, *, limit: int) -> bytes:
    """Returns the whole body.

    Raises:
        Problem: 413, it is longer than ``limit`` bytes.
    """
    body = bytearray()
    async for chunk in _chunks(request, limit):
        body += chunk
    return bytes(body)


async def read_into(blob: IncomingBlob, request: Request, *, limit: int) -> None:
    """Writes the whole body into a blob on its way; no more than a piece of it is held.

    Raises:
        Problem: 413, it is longer than ``limit`` bytes.
    """
    piece = bytearray()
    async for chunk in _chunks(request, limit):
        piece += chunk
        if len(piece) >= PIECE_BYTES:
            await run_in_threadpool(blob.write, piece)
            piece = bytearray()
    await run_in_threadpool(blob.write, piece)


async def _chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    if announced_length(request.headers) > limit:
        raise too_large(limit)
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > limit:
            raise too_large(limit)
        yield chunk


class BodyLimit:
    """Middleware that bounds every body, whichever way a route reads it.

    Args:
        app: the app within.
        limit_for: largest body in bytes by path.
    """

    def __init__(self, app: ASGIApp, *, limit_for: Callable[[str], int]) -> None:
        self._app = app
        self._limit_for = limit_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_for(scope["path"])
        if announced_length(Headers(scope=scope)) > limit:
            await problem_response(too_large(limit))(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                # An HTTPException passes through the framework's parsing to the error map.
                raise too_large(limit)
            return message

        await self._app(scope, counted, send)
