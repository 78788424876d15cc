"""The gateway's entrance: who calls, is the call in the table, within its bounds; then its rules.

    app.router.routes.extend(routes())

Plain ASGI inside the app: a tree of dependencies would cost each call a millisecond.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from api.auth.guard import HospitalCaller, admit_hospital_async
from api.bodies import read_body
from api.errors import Problem, as_problem, problem_response
from api.gateway.calls import EVENTS_PATH, Call, loggable, match
from api.gateway.handlers import HANDLERS, Asked
from api.gateway.refusals import refused, rule_of
from api.gateway.sockets import serve_events
from api.gateway.upstream import Answer, passed_headers
from api.hub import standing_of
from api.services import Services
from fl.names import GATEWAY_PATH, pool_name

_log = logging.getLogger(__name__)

_NOT_LISTED: Final = "this call is none of those that a hospital may make"


def routes() -> list[BaseRoute]:
    """The routes: everything below the gateway's path, by whatever method."""
    found: list[BaseRoute] = []
    for path in (GATEWAY_PATH, GATEWAY_PATH + "/{path:path}"):
        # A class's instance, not a function: Starlette then passes every method on.
        found.append(Route(path, _Calls(), include_in_schema=False))
        found.append(WebSocketRoute(path, _Sockets()))
    return found


def asked_path(scope: Scope) -> str:
    """Returns the path below the gateway's as it was sent, undecoded; empty when it is not there.

    A server that does not tell the undecoded path gives no way to see what was encoded.
    """
    raw: bytes = scope.get("raw_path") or b""
    prefix = f"{scope.get('app_root_path', scope.get('root_path', ''))}{GATEWAY_PATH}/"
    path = raw.split(b"?", 1)[0].decode("latin-1")
    return path[len(prefix) - 1 :] if path.startswith(prefix) else ""


class _Calls:
    """HTTP."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        services: Services = scope["app"].state.services
        caller = await admitted(services, request)
        path = asked_path(scope)
        found = match(request.method, path)
        template = found[0].template if found else loggable(path)
        try:
            if found is None:
                raise refused("call", _NOT_LISTED)
            answer = await _answer(services, caller, request, *found)
        except Problem as problem:
            _log.warning(
                "gateway refused: hospital=%s method=%s path=%s rule=%s status=%s",
                caller.hospital_id,
                request.method if found else loggable_method(request.method),
                template,
                rule_of(problem),
                problem.status_code,
            )
            raise
        await _response(answer)(scope, receive, send)


class _Sockets:
    """The websocket; a refusal before it is accepted is an answer in HTTP."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        services: Services = scope["app"].state.services
        path = asked_path(scope)
        hospital_id = "-"
        try:
            # Whoever asks: a worker tries Prefect's channel for workers without signing in.
            if path != EVENTS_PATH:
                raise refused("call", _NOT_LISTED)
            caller = await admitted(services, websocket)
            hospital_id = caller.hospital_id
            await serve_events(services, caller, websocket)
        except Problem as problem:
            _log.warning(
                "gateway refused: hospital=%s socket=%s rule=%s status=%s",
                hospital_id,
                EVENTS_PATH if path == EVENTS_PATH else loggable(path),
                rule_of(problem),
                problem.status_code,
            )
            await _deny(websocket, problem)


async def admitted(services: Services, connection: HTTPConnection) -> HospitalCaller:
    """Returns the hospital that calls.

    Raises:
        Problem: 401 without a valid token, 403 when it is not a hospital's.
    """
    authorization = connection.headers.get("authorization")
    try:
        return await admit_hospital_async(services, authorization)
    except Problem:
        raise
    except Exception as error:
        # The map of the app serves routes; a socket has to have its answer made here.
        if connection.scope["type"] == "websocket":
            raise as_problem(error) from error
        raise


async def _answer(
    services: Services,
    caller: HospitalCaller,
    request: Request,
    call: Call,
    values: dict[str, str],
) -> Answer:
    body = await read_body(request, limit=call.max_body) if call.max_body else b""
    deadline = asyncio.get_running_loop().time() + services.settings.dispatch_wait_s

    @asynccontextmanager
    async def turn() -> AsyncIterator[bool]:
        if not await _has_work(services, caller, request, deadline):
            yield False
            return
        try:
            async with asyncio.timeout_at(deadline):
                await services.gateway.askings.acquire()
        except TimeoutError:
            yield False  # its mark stays: the next question asks
            return
        try:
            # While it waited for its turn nobody listened for a change of its standing.
            await admitted(services, request)
            yield True
        finally:
            services.gateway.askings.release()

    asked = Asked(
        pool=pool_name(caller.hospital_id),
        values=values,
        body=body,
        headers=passed_headers(request.headers),
        turn=turn,
    )
    return await HANDLERS[call.name](services.gateway, asked)


async def _has_work(
    services: Services, caller: HospitalCaller, request: Request, deadline: float
) -> bool:
    """Holds the question for work open until asking is worth it.

    A hospital that has left, or whose standing has changed, is not asked for: its next call is
    admitted anew.
    """
    with services.hub.subscribe([standing_of(caller.hospital_id)]) as standing:
        work = asyncio.create_task(
            services.gateway.dispatch.await_work(pool_name(caller.hospital_id), deadline=deadline)
        )
        others = [
            asyncio.create_task(standing.wait(deadline)),
            asyncio.create_task(_left(request)),
        ]
        try:
            done, _ = await asyncio.wait([work, *others], return_when=asyncio.FIRST_COMPLETED)
            return work in done and not done.intersection(others) and work.result()
        finally:
            for task in (work, *others):
                task.cancel()
            await asyncio.gather(work, *others, return_exceptions=True)


async def _left(request: Request) -> None:
    """Ends when the caller has closed the connection; the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(answer: Answer) -> Response:
    """Prefect's status and body, and none of its headers."""
    media_type = "application/json" if answer.body else None
    return Response(answer.body or None, status_code=answer.status, media_type=media_type)


async def _deny(websocket: WebSocket, problem: Problem) -> None:
    """Answers before the socket is accepted; closing it is a 403 without a body.

    uvicorn writes an error into its log for an answer with a body, so only what a client has to
    tell from a 403 gets one.
    """
    extensions = websocket.scope.get("extensions", {})
    if problem.status_code == HTTPStatus.FORBIDDEN or "websocket.http.response" not in extensions:
        await websocket.close()
    else:
        await websocket.send_denial_response(problem_response(problem))


def loggable_method(method: str) -> str:
    """Returns a method that may stand in a log."""
    return method if method.isascii() and method.isalpha() and len(method) <= 10 else "-"
