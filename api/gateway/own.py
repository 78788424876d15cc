"""Which of Prefect's objects are a hospital's own: asked once upstream, then remembered.

    run = await own.run("hospital-north", run_id)    # or the problem: no such run of yours
    async with run.changing: ...

A run or a deployment is a hospital's when Prefect says that it is in the hospital's pool. What is
remembered is keyed by pool, so that nobody can tell from an answer's time what others have.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from cachetools import TTLCache

from api.gateway.refusals import not_yours
from api.gateway.upstream import Answer, Upstream
from fl.names import HOSPITAL_FLOW

REMEMBERED: Final = 10_000
# A worker reads its pool with every heartbeat, to know that it is there; who may take runs of it is
# decided by the server, at each question.
POOL_REMEMBERED_S: Final = 600.0

Kind = Literal["deployment", "flow"]


@dataclass(slots=True)
class OwnRun:
    """A run of the hospital's.

    Attributes:
        state: the type of the last state that the gateway has seen; None when it has seen none.
        changing: held while the state is changed: two changes at once could each be allowed alone.
    """

    state: str | None
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)


class OwnObjects:
    """What is whose, as far as it was asked.

    Args:
        upstream: the Prefect server.
        remembered: most runs, and most other objects, that are kept; the longest unused go first.
        timer: seconds, for forgetting.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        remembered: int = REMEMBERED,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upstream = upstream
        self._remembered = remembered
        self._runs: OrderedDict[tuple[str, str], OwnRun] = OrderedDict()
        self._others: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._pools: TTLCache[str, Answer] = TTLCache(remembered, POOL_REMEMBERED_S, timer=timer)
        self._pool_ids: dict[str, str] = {}

    async def run(self, pool: str, run_id: str) -> OwnRun:
        """Returns an own run, remembered or asked for.

        Raises:
            Problem: 403, there is no such run of this hospital's.
        """
        known = self._runs.get((pool, run_id))
        if known is not None:
            self._runs.move_to_end((pool, run_id))
            return known
        _, state = await self.read_run(pool, run_id)
        return self.saw_run(pool, run_id, state)

    async def read_run(
        self, pool: str, run_id: str, headers: Mapping[str, str] | None = None
    ) -> tuple[Answer, str | None]:
        """Reads an own run upstream; returns the answer and the type of the run's state.

        Raises:
            Problem: 403, there is no such run of this hospital's.
        """
        answer, found = await self._read(pool, "flow run", f"/flow_runs/{run_id}", headers)
        state = found.get("state_type")
        self.saw_run(pool, run_id, state)
        return answer, state

    def saw_run(self, pool: str, run_id: str, state: str | None) -> OwnRun:
        """Remembers a run that Prefect has shown to be the pool's.

        The state counts only for a run not seen before: an answer that was on its way while the
        state changed must not take it back.
        """
        run = self._runs.setdefault((pool, run_id), OwnRun(state))
        self._runs.move_to_end((pool, run_id))
        while len(self._runs) > self._remembered:
            self._runs.popitem(last=False)
        return run

    async def read_deployment(self, pool: str, deployment_id: str) -> Answer:
        """Reads an own deployment upstream.

        Raises:
            Problem: 403, there is no such deployment of this hospital's.
        """
        answer, _ = await self._read(pool, "deployment", f"/deployments/{deployment_id}")
        self._saw("deployment", pool, deployment_id)
        return answer

    async def read_flow(self, pool: str, flow_id: str) -> Answer:
        """Reads the flow of hospitals upstream.

        Raises:
            Problem: 403, it is another flow, or there is none.
        """
        answer = await self._upstream.call("GET", f"/flows/{flow_id}")
        if not answer.ok or answer.json().get("name") != HOSPITAL_FLOW:
            raise not_yours("flow")
        self._saw("flow", pool, flow_id)
        return answer

    async def require(self, kind: Kind, pool: str, object_id: str) -> None:
        """Lets an own deployment, or the flow of hospitals, pass.

        Raises:
            Problem: 403, it is neither.
        """
        key = (kind, pool, object_id)
        if key in self._others:
            self._others.move_to_end(key)
        elif kind == "deployment":
            await self.read_deployment(pool, object_id)
        else:
            await self.read_flow(pool, object_id)

    async def read_pool(self, pool: str) -> Answer:
        """Reads the hospital's pool, as it was ten minutes ago at the longest."""
        known = self._pools.get(pool)
        if known is not None:
            return known
        answer = await self._upstream.call("GET", f"/work_pools/{pool}")
        if answer.ok:
            self._pools[pool] = answer
            self._pool_ids[pool] = str(answer.json().get("id"))
        return answer

    def forget_pool(self, pool: str) -> None:
        """Has the next reading of the pool ask upstream; its id may be another one."""
        self._pools.pop(pool, None)
        self._pool_ids.pop(pool, None)

    async def pool_id(self, pool: str) -> str:
        """Returns the id of the hospital's pool.

        Raises:
            Problem: 403, the pool is not there.
        """
        if pool not in self._pool_ids:
            await self.read_pool(pool)
        if pool not in self._pool_ids:
            raise not_yours("work pool")
        return self._pool_ids[pool]

    async def _read(
        self, pool: str, kind: str, path: str, headers: Mapping[str, str] | None = None
    ) -> tuple[Answer, dict[str, Any]]:
        answer = await self._upstream.call("GET", path, headers=headers or {})
        found = answer.json() if answer.ok else {}
        if found.get("work_pool_name") != pool:
            raise not_yours(kind)
        return answer, found

    def _saw(self, kind: Kind, pool: str, object_id: str) -> None:
        self._others[kind, pool, object_id] = None
        while len(self._others) > self._remembered:
            self._others.popitem(last=False)
