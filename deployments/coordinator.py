"""The coordinator's worker: registers the deployments, then runs their flows.

``python -m deployments.coordinator [--after-stop]``. The pool is Prefect's own ``process`` type;
another worker on it, started by ``prefect worker start --pool coordinator``, shares the work.
"""

from __future__ import annotations

import sys

import anyio
from prefect.workers.process import ProcessWorker

from deployments.register import COORDINATOR_POOL


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
    await ProcessWorker(work_pool_name=COORDINATOR_POOL, name="coordinator").start()


if __name__ == "__main__":
    anyio.run(run)
