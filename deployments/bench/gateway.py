"""``make bench-gateway``: what the gateway adds, how soon work arrives, what idle hospitals cost.

The coordinator's stack on free ports and an empty state directory. Calls go straight to the Prefect
server and through the gateway by turns, so that both meet the same machine. The idle hospitals are
written to the database directly, with tokens signed by the API's own key.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from rich.console import Console

from deployments.bench.gateway_client import SUCCESS, Call, Connection, Paths, apart, rate_of
from deployments.bench.gateway_idle import HEARTBEAT_S, Idle, heartbeat, measure_idle
from deployments.bench.gateway_stack import Usage, bare_app, prefect_authorization, prepare
from deployments.bench.report import Figure, figure, print_report, write_report
from deployments.bench.rounds import free_ports
from deployments.settings import StackSettings
from deployments.stack import control
from fl.names import GATEWAY_PATH, pool_name

PAIRS: Final = 60
DISPATCHES: Final = 40
LOAD_S: Final = 3.0
AT_A_TIME: Final = 8
IDLE_HOSPITALS: Final = 1000
WORKING: Final = "bench"


@dataclass(slots=True)
class Measured:
    """Seconds and counts, by what they are of."""

    straight_s: dict[str, list[float]] = field(default_factory=dict)
    gateway_s: dict[str, list[float]] = field(default_factory=dict)
    in_hands_s: list[float] = field(default_factory=list)
    running_s: list[float] = field(default_factory=list)
    per_second: dict[str, list[float]] = field(default_factory=dict)
    idle: Idle = field(default_factory=Idle)
    load: tuple[float, ...] = ()


def main() -> int:
    """Runs the benchmark; returns 0 whether or not the goals are met."""
    console = Console()
    measured = Measured()
    with tempfile.TemporaryDirectory(prefix="fedmed-bench-") as home:
        prefect_port, mlflow_port, api_port = free_ports(3)
        settings = StackSettings(
            home=Path(home), prefect_port=prefect_port, mlflow_port=mlflow_port, api_port=api_port
        )
        # The stack is another process, and reads its ports for itself.
        os.environ.update({name: str(port) for name, (_, port) in settings.listens.items()})
        with control.attached(settings, hospitals={}, progress=_ignore) as stack:
            console.print("the hospitals …")
            bench = prepare(settings, idle=IDLE_HOSPITALS, working=WORKING)
            straight = Paths(prefect_port, "/api", prefect_authorization(settings))
            gateway = Paths(api_port, GATEWAY_PATH, bench.tokens[WORKING])
            # First: what runs leave behind keeps the Prefect server busy for minutes.
            console.print(f"{IDLE_HOSPITALS} idle hospitals …")
            polls = [
                Paths(api_port, GATEWAY_PATH, token).call(
                    "POST", f"/work_pools/{pool_name(hospital_id)}/get_scheduled_flow_runs", {}
                )
                for hospital_id, token in bench.tokens.items()
                if hospital_id != WORKING
            ]
            pids = {name: stack.state.services[name].pid for name in ("api", "prefect")}
            beats = [
                heartbeat(Paths(api_port, GATEWAY_PATH, token), hospital_id)
                for hospital_id, token in bench.tokens.items()
                if hospital_id != WORKING
            ]
            measured.idle = measure_idle(polls, beats, pids)
            console.print(f"answered: {dict(measured.idle.answers)}")
            console.print("added latency …")
            asyncio.run(measure_latency(measured, straight, gateway, bench.deployment_id))
            console.print("dispatch …")
            asyncio.run(measure_dispatch(measured, straight, gateway, bench.deployment_id))
            console.print("requests a second …")
            status = Call(api_port, "GET", bench.status_path, bench.operator)
            measure_load(measured, status, gateway.call("GET", f"/work_pools/{_POOL}"), Path(home))
            measured.load = os.getloadavg()
    path = StackSettings().home / "bench" / "gateway.json"
    print_report(write_report(path, list(figures(measured))), console)
    return 0


_POOL: Final = pool_name(WORKING)
_HEARTBEAT: Final = {"name": f"{WORKING}-host", "heartbeat_interval_seconds": HEARTBEAT_S}


async def measure_latency(
    measured: Measured, straight: Paths, gateway: Paths, deployment_id: str
) -> None:
    """Repeats three calls by turns, straight and through the gateway."""
    create = straight.call("POST", f"/deployments/{deployment_id}/create_flow_run", {})
    ways = ((measured.straight_s, straight), (measured.gateway_s, gateway))
    connections = {way.port: await Connection.open(way.port) for _, way in ways}

    async def timed(into: dict[str, list[float]], name: str, *calls: Call) -> None:
        began = time.perf_counter()
        for call in calls:
            reply = await connections[call.port].ask(call)
            if reply.status not in SUCCESS:
                raise RuntimeError(f"{call.path} answered {reply.status}: {reply.body[:300]!r}")
        into.setdefault(name, []).append(time.perf_counter() - began)

    for turn in range(PAIRS):
        # Who goes first changes: the second finds the server's caches warm.
        for into, way in ways if turn % 2 else ways[::-1]:
            run = (await connections[straight.port].ask(create)).json()["id"]
            await timed(into, "GET /flow_runs/{id}", way.call("GET", f"/flow_runs/{run}"))
            beat = way.call("POST", f"/work_pools/{_POOL}/workers/heartbeat", _HEARTBEAT)
            await timed(into, "POST workers/heartbeat", beat)
            pair = [
                way.call("POST", f"/flow_runs/{run}/set_state", _proposal(state))
                for state in ("PENDING", "RUNNING")
            ]
            await timed(into, "POST set_state, Pending and Running", *pair)
            done = straight.call("POST", f"/flow_runs/{run}/set_state", _proposal("CANCELLED"))
            await connections[straight.port].ask(done)
    for connection in connections.values():
        await connection.close()


def _proposal(state: str) -> dict[str, Any]:
    details = {"transition_id": str(uuid4())}
    return {"state": {"type": state, "state_details": details}, "force": state == "CANCELLED"}


async def measure_dispatch(
    measured: Measured, straight: Paths, gateway: Paths, deployment_id: str
) -> None:
    """Creates runs one by one while a client waits, which takes each to Running."""
    creator, waiter, worker = [
        await Connection.open(port) for port in (straight.port, gateway.port, gateway.port)
    ]
    create = straight.call("POST", f"/deployments/{deployment_id}/create_flow_run", {})
    poll = gateway.call("POST", f"/work_pools/{_POOL}/get_scheduled_flow_runs", {})
    for _ in range(DISPATCHES):
        waiting = asyncio.create_task(waiter.ask(poll))
        await asyncio.sleep(0.4)  # past what the last run has left behind
        began = time.perf_counter()
        created = asyncio.create_task(creator.ask(create))
        found = (await waiting).json()
        measured.in_hands_s.append(time.perf_counter() - began)
        run = (await created).json()["id"]
        if [item["flow_run"]["id"] for item in found] != [run]:
            raise RuntimeError(f"the poll brought {len(found)} runs, not the one that was created")
        for state in ("PENDING", "RUNNING"):
            path = f"/flow_runs/{run}/set_state"
            await worker.ask(gateway.call("POST", path, _proposal(state)))
        measured.running_s.append(time.perf_counter() - began)
    for connection in (creator, waiter, worker):
        await connection.close()


def measure_load(measured: Measured, status: Call, pool: Call, home: Path) -> None:
    """Asks for two routes as fast as they go, by turns with the bare framework."""

    async def body_of(call: Call) -> bytes:
        connection = await Connection.open(call.port)
        try:
            return (await connection.ask(call)).body
        finally:
            await connection.close()

    (body := home / "body").write_bytes(asyncio.run(body_of(status)))
    with bare_app(body) as port:
        for _ in range(3):
            for name, call in (
                ("/training/status/{id}", status),
                ("bare framework with the same bytes", Call(port, "GET", "/")),
                ("gateway GET /work_pools/{pool}, from memory", pool),
            ):
                answers = apart(rate_of, call, LOAD_S, AT_A_TIME)
                measured.per_second.setdefault(name, []).append(answers)


def figures(measured: Measured) -> Iterator[Figure]:
    """Returns the figures of docs/dispatch.md."""
    for name, straight in measured.straight_s.items():
        through = measured.gateway_s[name]
        calls = 2 if "set_state" in name else 1
        yield _ms(f"{name}: straight, median", statistics.median(straight), len(straight))
        yield _ms(f"{name}: gateway, median", statistics.median(through), len(through))
        yield _ms(f"{name}: straight, p95", _p95(straight), len(straight))
        yield _ms(f"{name}: gateway, p95", _p95(through), len(through))
        added = (statistics.median(through) - statistics.median(straight)) / calls
        yield _ms(f"{name}: added by a call, median", added, len(through), goal=3.0)
    for name, seconds in (
        ("create_flow_run → in the waiting client's hands", measured.in_hands_s),
        ("create_flow_run → Running", measured.running_s),
    ):
        yield _ms(f"{name}, median", statistics.median(seconds), len(seconds), goal=300.0)
        yield _ms(f"{name}, p95", _p95(seconds), len(seconds), goal=300.0)
        yield _ms(f"{name}, max", max(seconds), len(seconds))
    for name, rates in measured.per_second.items():
        yield figure(name, rates, unit="/s", better="higher")
    for name, (before, after) in measured.idle.used.items():
        yield from _idle_figures(name, before, after)
    yield figure(
        "answers to idle hospitals that were no success",
        [measured.idle.refused],
        unit="",
        better="lower",
        goal=0,
    )
    for minutes, load in zip((1, 5, 15), measured.load, strict=False):
        yield figure(f"load of the machine, {minutes} min", [load], unit="", better="lower")


def _idle_figures(name: str, before: Usage, after: Usage) -> Iterator[Figure]:
    has_goal = name.startswith("api, ") and "nobody" not in name
    share = 100 * (after.cpu_s - before.cpu_s) / (after.at - before.at)
    for what, value, unit, goal in (
        ("CPU of a core", share, "%", 10.0),
        ("resident memory", after.rss_mb, "MB", 300.0),
        ("proportional memory", after.pss_mb, "MB", None),
    ):
        yield figure(
            f"{name}: {what}",
            [value],
            unit=unit,
            better="lower",
            goal=goal if has_goal else None,
        )


def _ms(name: str, seconds: float, repeats: int, *, goal: float | None = None) -> Figure:
    value = round(1000 * seconds, 2)
    return Figure(
        figure=name, value=value, unit="ms", goal=goal, better="lower", repeats=repeats, spread=0
    )


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def _ignore(event: object) -> None:
    """The stack's progress is not shown."""


if __name__ == "__main__":
    sys.exit(main())
