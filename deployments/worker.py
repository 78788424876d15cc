"""The hospital's Prefect worker: it runs what the hospital installed and allowed, nothing else.

A Prefect server may name a command, an environment, an image, a pull step or an entrypoint for a
run. This worker reads none of them. It looks at the name of the flow, finds the flow in its own
allow-list, and runs that flow of the locally installed package in a child of its warm process.

``fedmed hospital start`` builds it; it is not started by ``prefect worker start``, which could not
give it a warm process.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from uuid import UUID

import anyio
import anyio.abc
import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow, FlowRun
from prefect.context import SyncClientContext
from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from deployments.warm import Request, WarmProcess
from fl.names import HOSPITAL_FLOW, pool_name
from tasks.hospital.exchange_errors import ExchangeError
from tasks.hospital.site import SiteSettings, auth_of
from tasks.hospital.tokens import HospitalAuth, IssuedToken

if TYPE_CHECKING:
    from prefect.client.schemas.objects import WorkPool
    from prefect.client.schemas.responses import DeploymentResponse

ALLOWED_FLOWS: Final[Mapping[str, str]] = MappingProxyType(
    {HOSPITAL_FLOW: "flows.hospital_round:hospital_round"}
)
"""Flow names that may run at a hospital, each with the local module and attribute it runs."""

_CANCEL_POLL_S: Final = 5.0
# Prefect shows a worker as offline after three of these; a thousand hospitals send one each.
_HEARTBEAT_S: Final = 120
_REFUSED_PAUSE_S: Final = 5.0

_log = logging.getLogger("fedmed.hospital")

ReportCrash = Callable[["FlowRun", int], Awaitable[None]]


class HospitalJobConfiguration(BaseJobConfiguration):
    """The name of the flow and nothing else that a server may have configured."""

    # A flow's name does not change, and asking for it at every run costs a round a request.
    _flows: ClassVar[dict[UUID, Flow]] = {}

    @classmethod
    async def resolve_for_flow_run(
        cls,
        flow_run: FlowRun,
        *,
        client: PrefectClient,
        work_pool: WorkPool,
        worker_name: str,
        worker_id: UUID | None = None,
        deployment: DeploymentResponse | None = None,
    ) -> Self:
        """Reads the flow's name; job variables, environment, blocks and pull steps stay unread."""
        flow = cls._flows.get(flow_run.flow_id) or await client.read_flow(flow_run.flow_id)
        cls._flows[flow.id] = flow
        configuration = cls(name=flow.name)
        configuration._related_objects = {"flow": flow, "flow-run": flow_run}
        return configuration


class HospitalVariables(BaseVariables):
    """A hospital's pool takes no variables; the server's template says so too."""


class HospitalWorkerResult(BaseWorkerResult):
    """The child's process id and exit code."""


class HospitalWorker(BaseWorker[HospitalJobConfiguration, HospitalVariables, HospitalWorkerResult]):
    """Runs allow-listed flows in children of a warm process.

    Args:
        hospital_id: the hospital; its pool is ``pool_name(hospital_id)``.
        warm: the warm process, forked before this event loop existed.
        environment: what a child needs to find its site; never taken from the server.
        auth: signs the worker's requests in at the gateway.
        report_crash: tells the exchange that a child ended without an answer.
    """

    type = "hospital"
    job_configuration = HospitalJobConfiguration
    job_configuration_variables = HospitalVariables
    _description = "Runs locally installed, allow-listed flows in children of a warm process."
    _display_name = "Hospital"

    def __init__(
        self,
        work_pool_name: str | None = None,
        *,
        hospital_id: str | None = None,
        warm: WarmProcess | None = None,
        environment: Mapping[str, str] | None = None,
        auth: HospitalAuth | None = None,
        report_crash: ReportCrash | None = None,
        **options: Any,
    ) -> None:
        if hospital_id is None or warm is None or auth is None or report_crash is None:
            raise TypeError("a hospital worker is started by `fedmed hospital start`")
        self._auth = auth
        super().__init__(
            work_pool_name=work_pool_name or pool_name(hospital_id),
            create_pool_if_not_found=False,
            name=f"{hospital_id}-{socket.gethostname()}",
            heartbeat_interval_seconds=_HEARTBEAT_S,
            **options,
        )
        self._warm = warm
        self._environment = dict(environment or {})
        self._report_crash = report_crash

    @property
    def _client(self) -> PrefectClient | None:
        """The base makes its client in ``setup``; each of its requests is signed in."""
        return self._signed_in_client

    @_client.setter
    def _client(self, client: PrefectClient | None) -> None:
        if client is not None:
            client._client.auth = self._auth
        self._signed_in_client = client

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Asks for runs; the gateway answers when there are some, or after most of a minute.

        A hospital that is refused, since it is suspended or its credential was replaced, goes on
        asking, where the base would end.
        """
        try:
            return await super().get_and_submit_flow_runs()
        except (ExchangeError, httpx.HTTPStatusError) as error:
            await _pause_if_refused(error)
            return []

    async def sync_with_backend(self) -> None:
        """Sends the heartbeat; a hospital that is refused tries again with the next."""
        try:
            await super().sync_with_backend()
        except (ExchangeError, httpx.HTTPStatusError) as error:
            await _pause_if_refused(error)

    async def _sync_and_initialize(self) -> None:
        """As the base, which would take a refused first synchronization for a completed one."""
        await self.sync_with_backend()

    async def _emit_worker_started_event(self) -> None:
        """Says nothing: an idle hospital needs no second connection."""

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        """Leaves the run's labels alone: one request a run less, and nothing reads them."""

    async def _propose_submitting_state(self, flow_run: FlowRun) -> None:
        """Goes from Pending to Running: a fork is too short a time for a state of its own."""

    async def _submit_run(self, flow_run: FlowRun) -> None:
        """Does what the base does, less its reading of the deployment and writing of a process id.

        Both serve other kinds of infrastructure and would each cost a round a request.
        """
        if self._runs_task_group is None:
            raise RuntimeError("the worker has not been set up")
        if await self._propose_pending_state(flow_run):
            await self._runs_task_group.start(self._submit_run_and_capture_errors, flow_run)
        else:
            self._release_limit_slot(flow_run.id)
        self._submitting_flow_run_ids.remove(flow_run.id)
        if self._cancelling_observer is not None:
            self._cancelling_observer.remove_in_flight_flow_run_id(flow_run.id)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: HospitalJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> HospitalWorkerResult:
        """Runs the flow in a child and waits for it.

        Raises:
            PermissionError: the flow's name is not in the allow-list.
        """
        target = ALLOWED_FLOWS.get(configuration.name or "")
        if target is None:
            raise PermissionError(f"flow {configuration.name!r} is not allowed at this hospital")
        request = {
            **self._environment,
            "flow_run": flow_run.model_dump_json(),
            "target": target,
            "token": self._auth.token.model_dump_json() if self._auth.token else "",
        }
        pid = await self._warm.start(request)
        if task_status is not None:
            task_status.started(pid)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_when_cancelled, flow_run.id, pid)
            exit_code = await self._warm.wait(pid)
            tasks.cancel_scope.cancel()
        if exit_code != 0:
            await self._report_crash(flow_run, exit_code)
        return HospitalWorkerResult(identifier=str(pid), status_code=exit_code)

    async def _end_when_cancelled(self, flow_run_id: UUID, pid: int) -> None:
        while True:
            await anyio.sleep(_CANCEL_POLL_S)
            flow_run = await self.client.read_flow_run(flow_run_id)
            if flow_run.state is not None and flow_run.state.is_cancelling():
                self._warm.kill(pid)
                await self._mark_flow_run_as_cancelled(flow_run)
                return


async def _pause_if_refused(error: Exception) -> None:
    if isinstance(error, httpx.HTTPStatusError) and not error.response.is_client_error:
        raise error
    _log.warning("the coordinator refuses this hospital: %s", error)
    await anyio.sleep(_REFUSED_PAUSE_S)


def run_child(request: Request) -> None:
    """The child's work: one run of one allowed flow, with the site's own environment.

    It differs from Prefect's own start of a run in what would cost a round time and serves nothing
    here: the run comes from the worker and is not read again, the client was made before the fork,
    and nobody watches for a suspension, which a round of seconds has no use for.
    """
    from prefect.engine import handle_engine_signals
    from prefect.flow_engine import run_flow

    environment = dict(request)
    flow_run = FlowRun.model_validate_json(environment.pop("flow_run"))
    module, attribute = environment.pop("target").split(":")
    token = environment.pop("token")
    os.environ.update(environment)
    os.environ["PREFECT__FLOW_RUN_ID"] = str(flow_run.id)
    flow = getattr(import_module(module), attribute)
    auth = auth_of(SiteSettings())
    if token:
        auth.token = IssuedToken.model_validate_json(token)
    # The engine watches for suspensions of runs that name a deployment; it reads the deployment
    # back from the server when the flow begins.
    unwatched = flow_run.model_copy(update={"deployment_id": None})
    # The worker watches the child itself, so heartbeats would add a connection and nothing else.
    # What a run logs stays at the hospital; its state says how long each stage took.
    quiet = temporary_settings(
        {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}
    )
    client = warm_client()
    client.client._client.auth = auth
    with quiet, handle_engine_signals(flow_run.id), client:
        # A state, not a result: a flow that ends as Failed has said why and is no crash. No error
        # logger either, since it would send a traceback, and with it data, to the server.
        run_flow(flow, flow_run=unwatched, return_type="state")


@cache
def warm_client() -> SyncClientContext:
    """The children's client, made once in the warm process; it connects in the child alone."""
    return SyncClientContext()
