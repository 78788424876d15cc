"""The hospital's Prefect worker: it runs what the hospital installed and allowed, nothing else.

A Prefect server may name a command, an environment, an image, a pull step or an entrypoint for a
run. This worker reads none of them. It looks at the name of the flow and at the parameters, which
must be an invitation to a round and nothing else, and runs that flow of the locally installed and
approved package in a child of its confined warm process.

``fedmed hospital start`` builds it; it is not started by ``prefect worker start``, which could not
give it a warm process.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from urllib.parse import urlsplit
from uuid import UUID

import anyio
import anyio.abc
import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow, FlowRun
from prefect.context import SyncClientContext
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)
from prefect.states import Pending
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from deployments.admission import Admission, RunRefused
from deployments.confine import ChildLimits, keep_allowed, limit_child
from deployments.warm import Request, WarmProcess
from fl.names import pool_name

if TYPE_CHECKING:
    from prefect.client.schemas.objects import WorkPool
    from prefect.client.schemas.responses import DeploymentResponse

PREFECT_SOCKET: Final = "FEDMED_PREFECT_SOCKET"
"""Names the Unix socket that leads a child to the Prefect API."""

_CANCEL_POLL_S: Final = 5.0
_CONNECT_RETRIES: Final = 3  # as Prefect's own client has

AwaitWork = Callable[[], Awaitable[None]]
ReportCrash = Callable[["FlowRun", int], Awaitable[None]]
ReportRefusal = Callable[[RunRefused], Awaitable[None]]


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
        admission: the hospital's rules for what runs.
        environment: what a child needs to find its site; never taken from the server.
        await_work: returns when there may be work, or after its own time limit.
        report_crash: tells the exchange that a child ended without an answer.
        report_refusal: tells the exchange that a run was not even begun.
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
        admission: Admission | None = None,
        environment: Mapping[str, str] | None = None,
        await_work: AwaitWork | None = None,
        report_crash: ReportCrash | None = None,
        report_refusal: ReportRefusal | None = None,
        **options: Any,
    ) -> None:
        if (
            hospital_id is None
            or warm is None
            or admission is None
            or await_work is None
            or report_crash is None
            or report_refusal is None
        ):
            raise TypeError("a hospital worker is started by `fedmed hospital start`")
        super().__init__(
            work_pool_name=work_pool_name or pool_name(hospital_id),
            create_pool_if_not_found=False,
            name=f"{hospital_id}-{socket.gethostname()}",
            **options,
        )
        self._warm = warm
        self._admission = admission
        self._environment = dict(environment or {})
        self._await_work = await_work
        self._report_crash = report_crash
        self._report_refusal = report_refusal

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Waits on the exchange until there may be work, then asks the Prefect server once."""
        if self._has_successfully_synced:
            await self._await_work()
        return await super().get_and_submit_flow_runs()

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
            RunRefused: the flow, its installed code or its parameters are not allowed here.
        """
        try:
            admitted = self._admission.admit(configuration.name, flow_run.parameters)
        except RunRefused as refused:
            await self._report_refusal(refused)
            raise
        # Nothing of the run but its identity and what has just been validated reaches the child.
        allowed = FlowRun(
            id=flow_run.id,
            name=flow_run.name,
            flow_id=flow_run.flow_id,
            state=Pending(),
            parameters={"invitation": admitted.invitation.model_dump(mode="json")},
        )
        request = {
            **self._environment,
            "flow_run": allowed.model_dump_json(),
            "target": admitted.target,
            "memory_mb": str(admitted.limits.memory_mb),
            "cpu_s": str(admitted.limits.cpu_s),
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
    limit_child(
        ChildLimits(
            memory_mb=int(environment.pop("memory_mb")), cpu_s=int(environment.pop("cpu_s"))
        )
    )
    keep_allowed(os.environ)
    os.environ.update(environment)
    os.environ["PREFECT__FLOW_RUN_ID"] = str(flow_run.id)
    flow = getattr(import_module(module), attribute)
    # The worker watches the child itself, so heartbeats would add a connection and nothing else.
    # What a run logs stays at the hospital; its state says how long each stage took.
    quiet = temporary_settings(
        {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}
    )
    with quiet, handle_engine_signals(flow_run.id), warm_client():
        # A state, not a result: a flow that ends as Failed has said why and is no crash. No error
        # logger either, since it would send a traceback, and with it data, to the server.
        run_flow(flow, flow_run=flow_run, return_type="state")


class RelayTransport(httpx.BaseTransport):
    """HTTP through the Unix socket that the child's environment names.

    It opens in the child, since a client that is made before the fork does not know the hospital.
    """

    def __init__(self, verify: ssl.SSLContext) -> None:
        self._verify = verify
        self._opened: httpx.HTTPTransport | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request; the first one opens the socket."""
        if self._opened is None:
            self._opened = httpx.HTTPTransport(
                verify=self._verify,
                trust_env=False,
                uds=os.environ.get(PREFECT_SOCKET),
                retries=_CONNECT_RETRIES,
            )
        return self._opened.handle_request(request)

    def close(self) -> None:
        """Closes the socket if it was opened."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


@cache
def warm_client() -> SyncClientContext:
    """The children's client, made once in the warm process; it connects in the child alone."""
    return SyncClientContext(httpx_settings={"transport": RelayTransport(_trusted())})


def _trusted() -> ssl.SSLContext:
    """The certificates to trust; for a plain address none, since loading them takes a while."""
    if urlsplit(PREFECT_API_URL.value() or "").scheme != "https":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authorities := PREFECT_API_SSL_CERT_FILE.value():
        return ssl.create_default_context(cafile=authorities)
    return httpx.create_ssl_context()
