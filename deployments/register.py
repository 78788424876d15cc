"""Registers the deployments that ``prefect.yaml`` declares, and the pool they run on.

``python -m deployments.register [--after-stop]``. It imports the flows for the schemas of their
parameters, so it is a process of its own that ends when it is done.
"""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import tenacity
import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.runner.storage import LocalStorage
from prefect.workers.process import ProcessWorker
from pydantic import BaseModel, ConfigDict

from db.session import connect
from db.settings import DatabaseSettings
from deployments.stack.recover import cancel_interrupted_runs, end_interrupted_trainings

AFTER_STOP: Final = "--after-stop"
COORDINATOR_POOL: Final = "coordinator"
DEPLOYMENTS_FILE: Final = Path(__file__).parent.parent / "prefect.yaml"

_SERVER_DEADLINE_S: Final = 180.0


class _WorkPool(BaseModel):
    name: str


class DeclaredSchedule(BaseModel):
    """A cron schedule as ``prefect.yaml`` declares it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cron: str
    timezone: str
    slug: str
    active: bool

    def create(self) -> DeploymentScheduleCreate:
        """Returns the schedule as Prefect's client takes it."""
        return DeploymentScheduleCreate(
            schedule=CronSchedule(cron=self.cron, timezone=self.timezone),
            slug=self.slug,
            active=self.active,
        )


class DeclaredDeployment(BaseModel):
    """A deployment as ``prefect.yaml`` declares it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str
    entrypoint: str
    work_pool: _WorkPool
    tags: list[str] = []
    concurrency_limit: dict[str, Any] | None = None
    schedules: tuple[DeclaredSchedule, ...] = ()


def declared_deployments(path: Path = DEPLOYMENTS_FILE) -> tuple[DeclaredDeployment, ...]:
    """Returns what the file declares."""
    document = yaml.safe_load(path.read_text())
    return tuple(DeclaredDeployment.model_validate(d) for d in document["deployments"])


async def register(client: PrefectClient, declared: DeclaredDeployment) -> None:
    """Creates or updates a deployment; leaves it alone when nothing of it has changed.

    Leaving it alone keeps what people have set in the Prefect UI, such as an active schedule.
    """
    deployment = RunnerDeployment.from_entrypoint(
        declared.entrypoint,
        name=declared.name,
        description=declared.description,
        tags=declared.tags,
        work_pool_name=declared.work_pool.name,
        schedules=[schedule.create() for schedule in declared.schedules],
        concurrency_limit=(
            ConcurrencyLimitConfig.model_validate(declared.concurrency_limit)
            if declared.concurrency_limit
            else None
        ),
    )
    # The flows are installed. Without a pull step Prefect would copy the working directory, state
    # and environment included, at every run.
    deployment.storage = LocalStorage(str(DEPLOYMENTS_FILE.parent))
    schema = deployment._parameter_openapi_schema.model_dump(mode="json")
    content = json.dumps(
        [declared.model_dump(mode="json"), schema, deployment.storage.to_pull_step()],
        sort_keys=True,
    )
    deployment.version = hashlib.sha256(content.encode()).hexdigest()[:16]
    full_name = f"{deployment.flow_name}/{declared.name}"
    try:
        known = await client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        pass
    else:
        if known.version == deployment.version:
            return
    await deployment.aapply()


async def ensure_pool(client: PrefectClient) -> None:
    """Creates the coordinator's work pool unless it is there."""
    template = ProcessWorker.get_default_base_job_template()
    pool = WorkPoolCreate(name=COORDINATOR_POOL, type="process", base_job_template=template)
    try:
        await client.create_work_pool(pool)
    except ObjectAlreadyExists:
        return


async def await_server(client: PrefectClient) -> None:
    """Waits until the Prefect server answers.

    Raises:
        httpx.TransportError: it does not within three minutes.
    """

    async def ask() -> None:
        error = await client.api_healthcheck()
        if error is not None:
            raise error

    await tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type((httpx.TransportError, httpx.HTTPStatusError)),
        wait=tenacity.wait_fixed(0.25),
        stop=tenacity.stop_after_delay(_SERVER_DEADLINE_S),
        reraise=True,
    )(ask)


async def main(*, after_stop: bool) -> None:
    """Waits for the Prefect server and registers everything.

    Args:
        after_stop: no flow is alive: first ends what an earlier stack left half done.
    """
    async with get_client() as client:
        await await_server(client)
        if after_stop:
            end_interrupted_trainings(connect(DatabaseSettings()), now=datetime.now(UTC))
            await cancel_interrupted_runs(client)
        await ensure_pool(client)
        for declared in declared_deployments():
            await register(client, declared)


if __name__ == "__main__":
    anyio.run(partial(main, after_stop=AFTER_STOP in sys.argv[1:]))
