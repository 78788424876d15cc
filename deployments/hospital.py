"""Running a hospital: forks its warm process, publishes its identity, works on its pool.

    fedmed hospital start --hospital-id hospital-1 --data-path DIR

The process imports what a round needs first, checks that this hospital approved it, forks the warm
process while it is single-threaded, and only then starts an event loop. The warm process confines
itself (`deployments.confine`) and reaches the coordinator through this one (`deployments.relay`).
"""

from __future__ import annotations

import fcntl
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
from tasks.hospital.exchange import ExchangeClient
from tasks.hospital.exchange_errors import ExchangeError
from tasks.hospital.parameters import round_named
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site, SiteSettings, open_site

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from deployments.admission import Admission, RunRefused

# The gateway holds the worker's request open until there is work; this is only the pause between
# two of them.
QUERY_SECONDS: Final = 0.05

_log = logging.getLogger("fedmed.hospital")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is ready before the event loop begins."""

    site: Site
    warm: WarmProcess
    admission: Admission
    way_out: relay.Route
    environment: Mapping[str, str]


def run_hospital(settings: SiteSettings) -> None:
    """Runs one hospital in this process until it is ended; this process must be single-threaded.

    Raises:
        SiteIncomplete: the site has no credential.
        SiteBusy: another process runs this hospital.
        CodeNotApproved: the installed code is not what this hospital approved.
        ConfinementFailed: a layer of confinement is required and missing, or hides the site.
        deployments.warm.ThreadsBeforeFork: something has started a thread already.
    """
    # Imports happen here, once, before the fork: children then find everything loaded.
    from deployments.admission import Admission
    from deployments.child import run_child
    from deployments.preload import preload

    site = open_site(settings)
    hold_site(settings)
    installed = preload()
    record_first_code(settings, installed, now=datetime.now(UTC))
    admission = Admission(settings, installed)
    admission.require_approved()
    way_out = relay.route_of(settings.hospital_home / "relay", settings.api_url)
    inside = settings.model_copy(update={"coordinator_socket": way_out.path})
    places, report = confine_here(site)
    warm = WarmProcess.fork(run_child, prepare=partial(_confine, report, places))
    anyio.run(_work, _Prepared(site, warm, admission, way_out, inside.environment()))


class SiteBusy(RuntimeError):
    """Another process runs this hospital."""


def hold_site(settings: SiteSettings) -> None:
    """Takes the site's lock, which the kernel frees when this process and its children have ended.

    Raises:
        SiteBusy: another process holds it: two workers would answer one round twice.
    """
    descriptor = os.open(settings.hospital_home / "worker.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SiteBusy(
            f"{settings.hospital_id} runs already on this machine, from {settings.hospital_home}"
        ) from None


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
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_LOGGING_TO_API_ENABLED,
        PREFECT_WORKER_QUERY_SECONDS,
        temporary_settings,
    )

    from deployments.gateway_client import sign_events_in
    from deployments.worker import HospitalWorker

    site, warm = prepared.site, prepared.warm
    await anyio.to_thread.run_sync(publish_identity, site)
    sign_events_in(site.auth)
    refusals = _Refusals(site)
    worker = HospitalWorker(
        hospital_id=site.settings.hospital_id,
        warm=warm,
        admission=prepared.admission,
        environment=prepared.environment,
        auth=site.auth,
        report_crash=refusals.of_crash,
        report_refusal=refusals.of_run,
    )
    through_gateway = {
        PREFECT_API_URL: site.settings.gateway_url,
        PREFECT_WORKER_QUERY_SECONDS: QUERY_SECONDS,
        # What a run says stays in the hospital's own log; Prefect would send it by a client of its
        # own, which is not signed in.
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    with temporary_settings(through_gateway):
        async with anyio.create_task_group() as tasks:
            await tasks.start(relay.serve, prepared.way_out)
            tasks.start_soon(warm.listen)
            await worker.start()
            tasks.cancel_scope.cancel()


def _connect(site: Site) -> ExchangeClient:
    return ExchangeClient.connect(site.settings.way, site.auth)


def publish_identity(site: Site) -> None:
    """Publishes the hospital's public keys, once the coordinator can be reached.

    Raises:
        ExchangeRefused: the coordinator knows other keys of this hospital.
    """
    with _connect(site) as exchange:
        tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((httpx.TransportError, httpx.HTTPStatusError)),
            wait=tenacity.wait_exponential(multiplier=0.2, max=5.0),
            reraise=True,
        )(
            exchange.publish_identity,
            site.settings.hospital_id,
            **site.identity.public.to_hex(),
        )


class _Refusals:
    """Tells the exchange of runs that were not begun, or ended without an answer."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def of_crash(self, flow_run: FlowRun, exit_code: int) -> None:
        """Tells the coordinator at once that a run ended without an answer."""
        refusal = Refusal("crashed", f"the run ended {_ending(exit_code)}")
        await self._tell(round_named(flow_run.parameters), refusal)

    async def of_run(self, refused: RunRefused) -> None:
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

    def _refuse(self, round_id: UUID, refusal: Refusal) -> None:
        with _connect(self._site) as exchange:
            exchange.put(round_id, "refusal", refusal.encode())


def _ending(exit_code: int) -> str:
    """How a child ended; the signals of its limits by what they mean."""
    if exit_code == -signal.SIGXCPU:
        return "at its limit of processor time (FEDMED_CHILD_CPU_S, or the round's deadline)"
    return f"with exit code {exit_code}"
