"""What hospitals cost that wait for work: their open questions, and their workers' heartbeats."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from deployments.bench.gateway_client import SUCCESS, Call, Connection, Paths, apart, hold
from deployments.bench.gateway_stack import Usage, usage
from fl.names import pool_name

SETTLING_S: Final = 15.0
# As long as a question is held: in it each hospital asks again once.
IDLE_S: Final = 50.0
BEATING_S: Final = 30.0
HEARTBEAT_S: Final = 120
# A pool is read once in ten minutes, whoever reads it: of five heartbeats one asks for it.
HEARTBEATS_A_READING: Final = 5


def heartbeat(way: Paths, hospital_id: str) -> tuple[Call, Call]:
    """Returns what a hospital's worker calls at each heartbeat."""
    pool = f"/work_pools/{pool_name(hospital_id)}"
    body = {"name": f"{hospital_id}-host", "heartbeat_interval_seconds": HEARTBEAT_S}
    return way.call("GET", pool), way.call("POST", f"{pool}/workers/heartbeat", body)


@dataclass(frozen=True, slots=True)
class Idle:
    """What the processes used, at the start and the end of each stretch, and what was answered."""

    used: dict[str, tuple[Usage, Usage]] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        """Answers that were no success."""
        return sum(count for status, count in self.answers.items() if status not in SUCCESS)


def measure_idle(
    polls: Sequence[Call], beats: Sequence[tuple[Call, Call]], pids: dict[str, int]
) -> Idle:
    """Holds the polls open, at last with heartbeats; the seconds when all connect do not count."""
    idle = Idle()

    def measure(name: str, seconds: float) -> None:
        before = {process: usage(pid) for process, pid in pids.items()}
        time.sleep(seconds)
        for process, pid in pids.items():
            idle.used[f"{process}, {name}"] = (before[process], usage(pid))

    beat_s = HEARTBEAT_S / len(beats)
    # A first heartbeat costs more: the server writes the worker and an event.
    asyncio.run(_beat_once(beats[: round(1.2 * BEATING_S / beat_s)]))
    time.sleep(SETTLING_S)
    measure("nobody waits", SETTLING_S)
    with ThreadPoolExecutor(1) as beside:
        first_beat_s = SETTLING_S + IDLE_S
        answers = beside.submit(
            apart,
            hold,
            polls,
            first_beat_s + BEATING_S,
            beats,
            first_beat_s,
            beat_s,
        )
        time.sleep(SETTLING_S)
        measure(f"{len(polls)} wait", IDLE_S)
        measure(f"{len(polls)} wait, with heartbeats", BEATING_S)
        idle.answers.update(answers.result())
    return idle


async def _beat_once(beats: Sequence[tuple[Call, Call]]) -> None:
    """Sends each worker's first heartbeat, and lets the gateway know most of the pools."""
    connection = await Connection.open(beats[0][0].port)
    for number, (reading, sending) in enumerate(beats):
        for call in (sending,) if number % HEARTBEATS_A_READING == 0 else (reading, sending):
            await connection.ask(call)
    await connection.close()
