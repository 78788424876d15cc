"""Running a hospital: forks its warm process, publishes its identity, works on its pool.

    fedmed hospital start --hospital-id hospital-1 --data-path DIR

The process imports what a round needs first, checks that this hospital approved it, forks the warm
process while it is single-threaded, and only then starts an event loop. The warm process confines
itself (`deployments.confine`) and reaches the coordinator through this one (`deployments.relay`).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio
import anyio.to_thread
import httpx
import tenacity

from deployments import relay
from deployments.confine import (
    Confinement,
    Places,
    confinement_report,
    enforce,
    keep_allowed,
    places_of,
    require,
)
from deployments.warm import WarmProcess
from tasks.hospital.allowed_flows import record_first_code
from tasks.hospital.exchange import ExchangeClient, ExchangeError
from tasks.hospital.parameters import round_named
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site, SiteSettings, open_site

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from deployments.admission import Admission, RunRefused

# The worker asks the Prefect server right after it was woken; this is only the pause between two
# long polls.
QUERY_SECONDS: Final = 0.05
_RECONNECT_S: Final = 2.0

_log = logging.getLogger("fedmed.hospital")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is ready before the event loop begins."""

    site: Site
    warm: WarmProcess
    admission: Admission
    routes: tuple[relay.Route, ...]
    environment: Mapping[str, str]


def run_hospital(settings: SiteSettings) -> None:
    """Runs one hospital in this process until it is ended; this process must be single-threaded.

    Raises:
        SiteIncomplete: the site has no credential.
        CodeNotApproved: the installed code is not what this hospital approved.
        ConfinementFailed: a layer of confinement is required and missing, or hides the site.
        deployments.warm.ThreadsBeforeFork: something has started a thread already.
    """
    # Imports happen here, once, before the fork: children then find everything loaded.
    from deployments.admission import Admission
    from deployments.preload import preload
    from deployments.worker import PREFECT_SOCKET, run_child

    site = open_site(settings)
    installed = preload()
    record_first_code(settings, installed, now=datetime.now(UTC))
    admission = Admission(settings, installed)
    admission.require_approved()
    urls = {"coordinator": settings.api_url}
    if prefect_url := os.environ.get("PREFECT_API_URL"):
        urls["prefect"] = prefect_url
    routes = relay.routes_of(settings.hospital_home / "relay", urls)
    inside = settings.model_copy(update={"coordinator_socket": routes["coordinator"].path})
    environment = inside.environment()
    if "prefect" in routes:
        environment[PREFECT_SOCKET] = str(routes["prefect"].path)
    places, report = confine_here(site)
    warm = WarmProcess.fork(run_child, prepare=partial(_confine, report, places))
    distinct = tuple(dict.fromkeys(routes.values()))
    anyio.run(_work, _Prepared(site, warm, admission, distinct, environment))


def confine_here(site: Site) -> tuple[Places, Confinement]:
    """Tries the confinement and keeps in the hospital's own log which layers it has.

    Raises:
        ConfinementFailed: a layer is required and missing, or hides the site's own files.
    """
    places = places_of(site.settings)
    report = confinement_report(places)
    for layer in report.missing:
        _log.warning("confinement without %s: %s", layer.name, layer.detail)
    site.store.log("confinement", {"layers": json.loads(report.encode())})
    if site.settings.confinement == "required":
        require(report)
    return places, report


def _confine(report: Confinement, places: Places) -> None:
    """Runs in the warm process: no secret in its environment, no way out of its layers."""
    keep_allowed(os.environ)
    os.environ["TMPDIR"] = str(places.temporary)
    os.environ["PREFECT_HOME"] = str(places.temporary / "prefect")
    tempfile.tempdir = None  # chosen anew, from TMPDIR
    os.chdir(places.temporary)  # Prefect looks for settings in the folder that it runs in
    enforce(report, places)


async def _work(prepared: _Prepared) -> None:
    from prefect.settings import PREFECT_WORKER_QUERY_SECONDS, temporary_settings

    from deployments.worker import HospitalWorker

    site, warm = prepared.site, prepared.warm
    await anyio.to_thread.run_sync(publish_identity, site)
    dispatches = _Dispatches(site)
    worker = HospitalWorker(
        hospital_id=site.settings.hospital_id,
        warm=warm,
        admission=prepared.admission,
        environment=prepared.environment,
        await_work=dispatches.wait,
        report_crash=dispatches.report_crash,
        report_refusal=dispatches.report_refusal,
    )
    with temporary_settings({PREFECT_WORKER_QUERY_SECONDS: QUERY_SECONDS}):
        async with anyio.create_task_group() as tasks:
            for route in prepared.routes:
                await tasks.start(relay.serve, route)
            tasks.start_soon(warm.listen)
            await worker.start()
            tasks.cancel_scope.cancel()


def publish_identity(site: Site) -> None:
    """Publishes the hospital's public keys, once the coordinator can be reached.

    Raises:
        ExchangeRefused: the coordinator knows other keys of this hospital.
    """
    public = site.identity.public
    with ExchangeClient.connect(site.settings.api_url, site.credential) as exchange:
        tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((httpx.TransportError, httpx.HTTPStatusError)),
            wait=tenacity.wait_exponential(multiplier=0.2, max=5.0),
            reraise=True,
        )(
            exchange.publish_identity,
            site.settings.hospital_id,
            signing_key=public.signing_key.hex(),
            sealing_key=public.sealing_key.hex(),
        )


class _Dispatches:
    """The worker's line to the exchange: it waits for dispatches and reports crashes."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._exchange = ExchangeClient.connect(site.settings.api_url, site.credential)
        self._last: str | None = None

    async def wait(self) -> None:
        """Returns when this hospital has been dispatched to, or after the long poll's time.

        Without the exchange the worker falls back to asking the Prefect server now and then.
        """
        try:
            round_id = await anyio.to_thread.run_sync(self._await_work, abandon_on_cancel=True)
        except (httpx.HTTPError, ExchangeError) as error:
            _log.warning("the exchange does not answer: %s", error)
            await anyio.sleep(_RECONNECT_S)
            return
        self._last = round_id or self._last

    async def report_crash(self, flow_run: FlowRun, exit_code: int) -> None:
        """Tells the coordinator at once that a run ended without an answer."""
        refusal = Refusal("crashed", f"the run ended {_ending(exit_code)}")
        await self._tell(round_named(flow_run.parameters), refusal)

    async def report_refusal(self, refused: RunRefused) -> None:
        """Tells the coordinator that a run was not begun, and keeps it in the own log."""
        refusal, round_id = refused.refusal, refused.round_id
        self._site.store.log("refused", {"round": str(round_id), "code": refusal.code})
        _log.warning("a run was refused: %s", refusal)
        await self._tell(round_id, refusal)

    async def _tell(self, round_id: UUID | None, refusal: Refusal) -> None:
        if round_id is None:
            return
        try:
            await anyio.to_thread.run_sync(self._refuse, round_id, refusal)
        except (httpx.HTTPError, ExchangeError) as error:
            _log.warning("could not report %r of round %s: %s", refusal.code, round_id, error)

    def _await_work(self) -> str | None:
        return self._exchange.await_work(after=self._last)

    def _refuse(self, round_id: UUID, refusal: Refusal) -> None:
        with ExchangeClient.connect(self._site.settings.api_url, self._site.credential) as exchange:
            exchange.put(round_id, "refusal", refusal.encode())


def _ending(exit_code: int) -> str:
    """How a child ended; the signals of its limits by what they mean."""
    if exit_code == -signal.SIGXCPU:
        return "at its limit of processor time (FEDMED_CHILD_CPU_S, or the round's deadline)"
    return f"with exit code {exit_code}"
