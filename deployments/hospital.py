"""Running a hospital: forks its warm process, publishes its identity, works on its pool.

    fedmed hospital start --hospital-id hospital-1 --data-path DIR

The process imports what a round needs first, forks the warm process while it is single-threaded,
and only then starts an event loop.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio
import anyio.to_thread
import httpx
import tenacity

from deployments.warm import WarmProcess
from tasks.hospital.exchange import ExchangeClient
from tasks.hospital.exchange_errors import ExchangeError
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site, SiteSettings, open_site

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

# The gateway holds the worker's request open until there is work; this is only the pause between
# two of them.
QUERY_SECONDS: Final = 0.05

_log = logging.getLogger("fedmed.hospital")


def run_hospital(settings: SiteSettings) -> None:
    """Runs one hospital in this process until it is ended; this process must be single-threaded.

    Raises:
        SiteIncomplete: the site has no credential.
        deployments.warm.ThreadsBeforeFork: something has started a thread already.
    """
    # Imports happen here, once, before the fork: children then find everything loaded.
    from deployments.preload import preload
    from deployments.worker import run_child

    site = open_site(settings)
    preload()
    warm = WarmProcess.fork(run_child)
    anyio.run(_work, site, warm)


async def _work(site: Site, warm: WarmProcess) -> None:
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_WORKER_QUERY_SECONDS,
        temporary_settings,
    )

    from deployments.gateway_client import sign_events_in
    from deployments.worker import HospitalWorker

    await anyio.to_thread.run_sync(publish_identity, site)
    sign_events_in(site.auth)
    worker = HospitalWorker(
        hospital_id=site.settings.hospital_id,
        warm=warm,
        environment=site.settings.environment(),
        auth=site.auth,
        report_crash=_Crashes(site).report,
    )
    through_gateway = {
        PREFECT_API_URL: site.settings.gateway_url,
        PREFECT_WORKER_QUERY_SECONDS: QUERY_SECONDS,
    }
    with temporary_settings(through_gateway):
        async with anyio.create_task_group() as tasks:
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
    public = site.identity.public
    with _connect(site) as exchange:
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


class _Crashes:
    """Tells the exchange of runs that ended without an answer."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def report(self, flow_run: FlowRun, exit_code: int) -> None:
        """Tells the coordinator at once that a run ended without an answer."""
        invitation = flow_run.parameters.get("invitation", {})
        round_id = invitation.get("round_id") if isinstance(invitation, dict) else None
        if round_id is None:
            return
        refusal = Refusal("crashed", f"the run ended with exit code {exit_code}")
        try:
            await anyio.to_thread.run_sync(self._refuse, round_id, refusal)
        except (httpx.HTTPError, ExchangeError) as error:
            _log.warning("could not report the crash of %s: %s", flow_run.id, error)

    def _refuse(self, round_id: str, refusal: Refusal) -> None:
        with _connect(self._site) as exchange:
            exchange.put(UUID(round_id), "refusal", refusal.encode())
