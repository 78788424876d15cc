"""The events websocket: a worker sends, the gateway inspects and passes on by HTTP.

The handshake is Prefect's (subprotocol ``prefect``, first frame ``{"type": "auth", …}``), but who
calls is told by the handshake's ``Authorization`` header, before it is accepted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import anyio
import orjson
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.auth.guard import HospitalCaller, admit_hospital_async
from api.errors import Problem, as_problem
from api.gateway.calls import EVENTS_PATH, MAX_FRAME_BYTES
from api.gateway.events import inspect
from api.gateway.refusals import refused, rule_of
from api.hub import revocation_of, standing_of
from api.services import Services

_log = logging.getLogger(__name__)

MAX_SOCKETS: Final = 16
"""Open sockets of one hospital: its worker's, and those of the runs it has started."""

_SUBPROTOCOL: Final = "prefect"
_AUTH_S: Final = 10.0
_BATCH: Final = 50

POLICY: Final = 1008
TOO_BIG: Final = 1009
GOING: Final = 1001
FAILED: Final = 1011
TRY_LATER: Final = 1013


class _Closing(Exception):
    """The socket is to be closed, with a code and the rule that was broken, if one was."""

    def __init__(self, code: int, rule: str) -> None:
        super().__init__(rule)
        self.code = code
        self.rule = rule


async def serve_events(services: Services, caller: HospitalCaller, websocket: WebSocket) -> None:
    """Takes a hospital's events until it leaves, sends a foreign one, or may not send any more.

    Raises:
        Problem: 403, before the socket is accepted: it speaks another protocol.
    """
    if _SUBPROTOCOL not in websocket.scope.get("subprotocols", ()):
        raise refused("subprotocol", "the events socket speaks the subprotocol 'prefect'")
    sockets = services.gateway.sockets
    sockets[caller.hospital_id] += 1
    try:
        await websocket.accept(subprotocol=_SUBPROTOCOL)
        await _serve_until_closed(services, caller, websocket)
    except _Closing as closing:
        _log.warning(
            "gateway closed: hospital=%s socket=%s rule=%s code=%s",
            caller.hospital_id,
            EVENTS_PATH,
            closing.rule,
            closing.code,
        )
        await _close(websocket, closing)
    except WebSocketDisconnect:
        pass
    finally:
        sockets[caller.hospital_id] -= 1
        if not sockets[caller.hospital_id]:
            del sockets[caller.hospital_id]


async def _serve_until_closed(
    services: Services, caller: HospitalCaller, websocket: WebSocket
) -> None:
    if services.gateway.sockets[caller.hospital_id] > MAX_SOCKETS:
        raise _Closing(TRY_LATER, "sockets")
    # Whoever ends first, ends the others: the hospital, a rule, or the end of its admission.
    send, receive = anyio.create_memory_object_stream[Any](_BATCH)
    with send, receive:
        working = [
            asyncio.create_task(_watch_admission(services, caller, websocket)),
            asyncio.create_task(_pass_on(services, receive)),
            asyncio.create_task(_take(services, caller, websocket, send)),
        ]
        try:
            done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            if working[2] in done and working[2].exception() is None:
                # The hospital has left; what it sent before still goes on.
                send.close()
                done, _ = await asyncio.wait(working[:2], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in working:
                task.cancel()
            ended = await asyncio.gather(*working, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error


async def _take(
    services: Services,
    caller: HospitalCaller,
    websocket: WebSocket,
    send: MemoryObjectSendStream[Any],
) -> None:
    """Reads frames, inspects them, and queues what may go on; full, it stops reading."""
    await _greet(websocket)
    own = services.gateway.own
    while (frame := await _frame(websocket)) is not None:
        try:
            event = await inspect(own, caller.hospital_id, frame, now=services.now())
        except Problem as problem:
            code = FAILED if problem.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR else POLICY
            raise _Closing(code, rule_of(problem)) from problem
        await send.send(event)


async def _greet(websocket: WebSocket) -> None:
    """Prefect's handshake; the token in it is empty, or not the gateway's business."""
    try:
        async with asyncio.timeout(_AUTH_S):
            frame = await _frame(websocket)
    except TimeoutError:
        raise _Closing(POLICY, "auth") from None
    try:
        hello = orjson.loads(frame or b"")
    except orjson.JSONDecodeError:
        hello = None
    if not isinstance(hello, dict) or hello.get("type") != "auth":
        raise _Closing(POLICY, "auth")
    await websocket.send_text('{"type":"auth_success"}')


async def _frame(websocket: WebSocket) -> bytes | None:
    """Returns the next frame; None when the hospital has left."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        return None
    text, data = message.get("text"), message.get("bytes")
    # A character is a byte at least: what is too long is not encoded first.
    if text is not None and len(text) <= MAX_FRAME_BYTES:
        data = text.encode("utf-8", "surrogatepass")
    if data is None or len(data) > MAX_FRAME_BYTES:
        raise _Closing(TOO_BIG, "frame-size")
    return bytes(data)


async def _pass_on(services: Services, receive: MemoryObjectReceiveStream[Any]) -> None:
    """Posts what has been queued, as many events at a time as there are."""
    async for first in receive:
        batch = [first]
        while len(batch) < _BATCH:
            try:
                batch.append(receive.receive_nowait())
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
        await _post(services, batch)


async def _post(services: Services, batch: Sequence[Any]) -> None:
    try:
        answer = await services.gateway.upstream.call("POST", "/events", orjson.dumps(batch))
    except Problem as problem:
        # The client connects again and sends what it holds unconfirmed.
        raise _Closing(FAILED, rule_of(problem)) from problem
    if not answer.ok:
        raise _Closing(FAILED, f"upstream-{answer.status}")


async def _watch_admission(
    services: Services, caller: HospitalCaller, websocket: WebSocket
) -> None:
    """Ends with the token, when it is revoked, with another standing, or with the server."""
    loop = asyncio.get_running_loop()
    topics = [standing_of(caller.hospital_id), revocation_of(caller.token_id)]
    with services.hub.subscribe(topics) as subscription:
        await _admit_again(services, websocket)
        while (left_s := (caller.expires_at - services.now()).total_seconds()) > 0:
            deadline = loop.time() + left_s
            if await subscription.wait(deadline):
                raise _Closing(POLICY, "standing")
            if loop.time() < deadline:
                raise _Closing(GOING, "server-ends")
    raise _Closing(POLICY, "token-expired")


async def _admit_again(services: Services, websocket: WebSocket) -> None:
    """What changed between the admission and the subscription would go unheard."""
    try:
        await admit_hospital_async(services, websocket.headers.get("authorization"))
    except Exception as error:
        problem = as_problem(error)
        code = FAILED if problem.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR else POLICY
        raise _Closing(code, rule_of(problem)) from error


async def _close(websocket: WebSocket, closing: _Closing) -> None:
    try:
        await websocket.close(closing.code, closing.rule)
    except (RuntimeError, WebSocketDisconnect):
        _log.debug("the socket was closed already")
