"""The coordinator's worker: registers the deployments, then runs their flows.

``python -m deployments.coordinator [--after-stop]``. The pool is Prefect's own ``process`` type.
What a run leaves open when it crashes, is cancelled or cannot start, this worker ends with that
reason.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from functools import cached_property, partial

import anyio
import anyio.abc
import anyio.to_thread
from prefect.client.schemas.objects import FlowRun
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult
from sqlalchemy import Engine

from db.session import connect
from db.settings import DatabaseSettings
from deployments.register import COORDINATOR_POOL
from deployments.stack.recover import end_trainings_of_run


class CoordinatorWorker(ProcessWorker):
    """Prefect's process worker, which also ends the training of a run that has ended before it."""

    @classmethod
    def __dispatch_key__(cls) -> str:
        # Its pool's type stays Prefect's own; under that key it would take that worker's place.
        return "fedmed-coordinator"

    @cached_property
    def _engine(self) -> Engine:
        return connect(DatabaseSettings())

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Runs the flow in a process; afterwards nothing of it is open."""
        how = "could not start"
        try:
            result = await super().run(flow_run, configuration, task_status)
            how = f"ended with exit code {result.status_code}"
            return result
        finally:
            await anyio.to_thread.run_sync(
                partial(
                    end_trainings_of_run,
                    self._engine,
                    str(flow_run.id),
                    reason=f"its run {flow_run.name!r} {how} before the training was over",
                    now=datetime.now(UTC),
                )
            )


async def run() -> None:
    """Registers the deployments and works on the coordinator's pool until it is ended."""
    # In a process of its own: the flows it imports would stay in this one's memory.
    registered = await anyio.run_process(
        [sys.executable, "-m", "deployments.register", *sys.argv[1:]],
        stdout=None,
        stderr=None,
        check=False,
    )
    if registered.returncode != 0:
        sys.exit(registered.returncode)  # it has said why
    await CoordinatorWorker(work_pool_name=COORDINATOR_POOL, name="coordinator").start()


if __name__ == "__main__":
    anyio.run(run)
