"""The hospital's Prefect worker: it runs what the hospital installed and allowed, nothing else.

A Prefect server may name a command, an environment, an image, a pull step or an entrypoint for a
run. This worker reads none of them. It looks at the name of the flow and at the parameters, which
must be an invitation to a round and nothing else, and runs that flow of the locally installed and
approved package in a child of its confined warm process.

``fedmed hospital start`` builds it; it is not started by ``prefect worker start``, which could not
give it a warm process.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from uuid import UUID

import anyio
import anyio.abc
import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow, FlowRun, State
from prefect.exceptions import ObjectNotFound, PrefectSignal
from prefect.states import Running
from prefect.utilities.engine import propose_state
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult
from pydantic import ValidationError

from deployments.admission import Admission, RunRefused
from deployments.child import RunOutcome
from deployments.warm import Ended, WarmProcess
from fl.names import pool_name
from tasks.hospital.exchange_errors import ExchangeError
from tasks.hospital.tokens import HospitalAuth

if TYPE_CHECKING:
    from prefect.client.schemas.objects import WorkPool
    from prefect.client.schemas.responses import DeploymentResponse

_CANCEL_POLL_S: Final = 5.0
# Prefect shows a worker as offline after three of these; a thousand hospitals send one each.
_HEARTBEAT_S: Final = 120
_REFUSED_PAUSE_S: Final = 5.0

_log = logging.getLogger("fedmed.hospital")

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
        auth: signs the worker's requests in at the gateway.
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
        auth: HospitalAuth | None = None,
        report_crash: ReportCrash | None = None,
        report_refusal: ReportRefusal | None = None,
        **options: Any,
    ) -> None:
        if (
            hospital_id is None
            or warm is None
            or admission is None
            or auth is None
            or report_crash is None
            or report_refusal is None
        ):
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
        self._admission = admission
        self._environment = dict(environment or {})
        self._report_crash = report_crash
        self._report_refusal = report_refusal

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

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        """Leaves the run's labels alone: one request a run less, and nothing reads them."""

    async def _propose_submitting_state(self, flow_run: FlowRun) -> None:
        """Leaves it out: the run is running already."""

    def _emit_flow_run_submitted_event(self, configuration: BaseJobConfiguration) -> None:
        """Says nothing: the server's own events tell each state of a run."""

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
        pid = await self._warm.start(
            {
                # Nothing of the run but what has just been validated reaches the child.
                **self._environment,
                "target": admitted.target,
                "invitation": admitted.invitation.model_dump_json(),
                "token": self._auth.token.model_dump_json() if self._auth.token else "",
                "memory_mb": str(admitted.limits.memory_mb),
                "cpu_s": str(admitted.limits.cpu_s),
            }
        )
        if task_status is not None:
            task_status.started(pid)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_when_cancelled, flow_run.id, pid)
            ended = await self._warm.wait(pid)
            tasks.cancel_scope.cancel()
        outcome = _outcome_of(ended)
        if outcome is None:
            await self._report_crash(flow_run, ended.exit_code)
        else:
            await self._set_state(flow_run, outcome.as_state())
        code = ended.exit_code or (0 if outcome else 1)
        return HospitalWorkerResult(identifier=str(pid), status_code=code)

    async def _propose_pending_state(self, flow_run: FlowRun) -> bool:
        """Claims the run: straight to Running, since a fork is too short for states of its own.

        Two workers cannot both claim it, since a site has one worker (`deployments.hospital`).
        """
        state = await self._set_state(flow_run, Running())
        return state is not None and state.is_running()

    async def _set_state(self, flow_run: FlowRun, proposed: State[None]) -> State[Any] | None:
        """Returns the state that the run has now; None when the server refuses to change it."""
        try:
            return await propose_state(self.client, proposed, flow_run_id=flow_run.id)
        except (PrefectSignal, ObjectNotFound, ExchangeError, httpx.HTTPError) as error:
            _log.warning("run %s is not %s: %s", flow_run.name, proposed.name, error)
            return None

    async def _end_when_cancelled(self, flow_run_id: UUID, pid: int) -> None:
        while True:
            await anyio.sleep(_CANCEL_POLL_S)
            try:
                flow_run = await self.client.read_flow_run(flow_run_id)
            except (ObjectNotFound, ExchangeError, httpx.HTTPError) as error:
                _log.warning("could not ask whether run %s goes on: %s", flow_run_id, error)
                continue
            if flow_run.state is not None and flow_run.state.is_cancelling():
                self._warm.kill(pid)
                await self._mark_flow_run_as_cancelled(flow_run)
                return


def _outcome_of(ended: Ended) -> RunOutcome | None:
    """Returns the outcome that a child has left; None when it ended without one."""
    if ended.exit_code != 0:
        return None
    try:
        return RunOutcome.model_validate_json(ended.answer)
    except ValidationError:
        _log.warning("a run left no outcome that can be read")
        return None


async def _pause_if_refused(error: Exception) -> None:
    if isinstance(error, httpx.HTTPStatusError) and not error.response.is_client_error:
        raise error
    _log.warning("the coordinator refuses this hospital: %s", error)
    await anyio.sleep(_REFUSED_PAUSE_S)
