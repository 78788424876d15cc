"""What is inspected and what goes upstream, by call.

Each function takes what was asked and returns Prefect's answer, or raises the problem. Paths and
bodies of upstream calls are built here, from values that have passed a rule.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import orjson

from api.gateway.bodies import Heartbeat, Labels, Logs, RunUpdate, ScheduledRuns, SetState, read
from api.gateway.calls import Name
from api.gateway.gateway import Gateway
from api.gateway.own import OwnRun
from api.gateway.refusals import not_yours, refused
from api.gateway.states import TERMINAL, may_go
from api.gateway.upstream import Answer

# As Prefect answers when its protection against forged browser requests is off: the client then
# stops asking. Any other refusal would end the worker.
_NO_CSRF: Final = Answer(422, orjson.dumps({"detail": "CSRF protection is disabled."}))
_OVER: Final = "the run is over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A call of a hospital's that is in the table.

    Attributes:
        pool: the caller's own pool, whatever the path says.
        values: the values in the path.
        body: the body, within its bound; empty when the call takes none.
        headers: the few headers that are passed on.
        turn: waits until asking for runs is worth it and there is room for it; yields False when
            the time is over.
    """

    pool: str
    values: Mapping[str, str]
    body: bytes
    headers: Mapping[str, str]
    turn: Callable[[], AbstractAsyncContextManager[bool]]


Handler = Callable[[Gateway, Asked], Awaitable[Answer]]


async def _health(gateway: Gateway, asked: Asked) -> Answer:
    return await gateway.upstream.call("GET", "/health", headers=asked.headers)


async def _version(gateway: Gateway, asked: Asked) -> Answer:
    return await gateway.upstream.call("GET", "/admin/version", headers=asked.headers)


async def _csrf_token(gateway: Gateway, asked: Asked) -> Answer:
    return _NO_CSRF


async def _read_pool(gateway: Gateway, asked: Asked) -> Answer:
    _require_own_pool(asked)
    return await gateway.own.read_pool(asked.pool)


async def _get_runs(gateway: Gateway, asked: Asked) -> Answer:
    """Asks for work once there may be some; every run that is handed out is the pool's own."""
    _require_own_pool(asked)
    question = read(ScheduledRuns, asked.body)
    path = f"/work_pools/{asked.pool}/get_scheduled_flow_runs"
    asked_at = time.monotonic()
    while True:
        async with asked.turn() as may_ask:
            if not may_ask:
                return Answer(200, b"[]")
            body = question.upstream(waited_s=time.monotonic() - asked_at)
            answer = await gateway.upstream.call("POST", path, body, headers=asked.headers)
        if not answer.ok:
            gateway.own.forget_pool(asked.pool)
            return answer
        found = answer.json()
        for item in found:
            run = item["flow_run"]
            gateway.own.saw_run(asked.pool, run["id"], run.get("state_type"))
        gateway.dispatch.looked(asked.pool, found=bool(found))
        if found:
            return answer


async def _heartbeat(gateway: Gateway, asked: Asked) -> Answer:
    _require_own_pool(asked)
    body = read(Heartbeat, asked.body).upstream()
    path = f"/work_pools/{asked.pool}/workers/heartbeat"
    answer = await gateway.upstream.call("POST", path, body, headers=asked.headers)
    if not answer.ok:
        gateway.own.forget_pool(asked.pool)
    return answer


async def _read_deployment(gateway: Gateway, asked: Asked) -> Answer:
    return await gateway.own.read_deployment(asked.pool, asked.values["id"])


async def _read_flow(gateway: Gateway, asked: Asked) -> Answer:
    return await gateway.own.read_flow(asked.pool, asked.values["id"])


async def _read_run(gateway: Gateway, asked: Asked) -> Answer:
    answer, _ = await gateway.own.read_run(asked.pool, asked.values["id"], asked.headers)
    return answer


async def _update_run(gateway: Gateway, asked: Asked) -> Answer:
    await _own_run(gateway, asked)
    path = f"/flow_runs/{asked.values['id']}"
    body = read(RunUpdate, asked.body).upstream()
    return await gateway.upstream.call("PATCH", path, body, headers=asked.headers)


async def _label_run(gateway: Gateway, asked: Asked) -> Answer:
    await _own_run(gateway, asked)
    path = f"/flow_runs/{asked.values['id']}/labels"
    body = read(Labels, asked.body).upstream()
    return await gateway.upstream.call("PATCH", path, body, headers=asked.headers)


async def _set_state(gateway: Gateway, asked: Asked) -> Answer:
    run_id = asked.values["id"]
    run = await _own_run(gateway, asked)
    proposal = read(SetState, asked.body)
    proposal.require_allowed()
    async with run.changing:
        if not may_go(run.state, proposal.state.type):
            # Others change a run too: the coordinator, an automation, another API process.
            _, run.state = await gateway.own.read_run(asked.pool, run_id, asked.headers)
        if run.state in TERMINAL:
            # Prefect's own way to say no: the engine then ends in good order, as it must when the
            # coordinator has ended the run, or when it repeats itself after a lost answer.
            return _aborted(_OVER)
        if not may_go(run.state, proposal.state.type):
            raise refused("transition", "a hospital may not take a run from its state to this one")
        path = f"/flow_runs/{run_id}/set_state"
        body = proposal.upstream(run_id)
        answer = await gateway.upstream.call("POST", path, body, headers=asked.headers)
        if answer.ok:
            run.state = (answer.json().get("state") or {}).get("type") or run.state
        return answer


async def _write_logs(gateway: Gateway, asked: Asked) -> Answer:
    logs = read(Logs, asked.body)
    for run_id in logs.runs():
        await gateway.own.run(asked.pool, run_id)
    return await gateway.upstream.call("POST", "/logs/", logs.upstream(), headers=asked.headers)


def _require_own_pool(asked: Asked) -> None:
    if asked.values["pool"] != asked.pool:
        raise not_yours("work pool")


async def _own_run(gateway: Gateway, asked: Asked) -> OwnRun:
    return await gateway.own.run(asked.pool, asked.values["id"])


def _aborted(reason: str) -> Answer:
    """Prefect's ``OrchestrationResult`` of a transition that is not made."""
    details = {"type": "abort_details", "reason": reason}
    return Answer(200, orjson.dumps({"state": None, "status": "ABORT", "details": details}))


HANDLERS: Final[Mapping[Name, Handler]] = MappingProxyType(
    {
        "health": _health,
        "version": _version,
        "csrf-token": _csrf_token,
        "read-pool": _read_pool,
        "get-runs": _get_runs,
        "heartbeat": _heartbeat,
        "read-deployment": _read_deployment,
        "read-flow": _read_flow,
        "read-run": _read_run,
        "update-run": _update_run,
        "label-run": _label_run,
        "set-state": _set_state,
        "write-logs": _write_logs,
    }
)
