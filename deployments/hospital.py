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
from tasks.hospital.exchange import ExchangeClient, ExchangeError
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site, SiteSettings, open_site

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

# The worker asks the Prefect server right after it was woken; this is only the pause between two
# long polls.
QUERY_SECONDS: Final = 0.05
_RECONNECT_S: Final = 2.0

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
    from prefect.settings import PREFECT_WORKER_QUERY_SECONDS, temporary_settings

    from deployments.worker import HospitalWorker

    await anyio.to_thread.run_sync(publish_identity, site)
    dispatches = _Dispatches(site)
    worker = HospitalWorker(
        hospital_id=site.settings.hospital_id,
        warm=warm,
        environment=site.settings.environment(),
        await_work=dispatches.wait,
        report_crash=dispatches.report_crash,
    )
    with temporary_settings({PREFECT_WORKER_QUERY_SECONDS: QUERY_SECONDS}):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(warm.listen)
            await worker.start()
            tasks.cancel_scope.cancel()


def publish_identity(site: Site) -> None:
    """Publishes the hospital's public keys, once the coordinator can be reached.

    Raises:
        ExchangeRefused: the coordinator knows other keys of this hospital.
    """
    public = site.identity.public
    with ExchangeClient.connect(
        site.settings.api_url, site.credential, ca_file=site.settings.ca_file
    ) as exchange:
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
        self._exchange = ExchangeClient.connect(
            site.settings.api_url, site.credential, ca_file=site.settings.ca_file
        )
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
        invitation = flow_run.parameters.get("invitation", {})
        round_id = invitation.get("round_id") if isinstance(invitation, dict) else None
        if round_id is None:
            return
        refusal = Refusal("crashed", f"the run ended with exit code {exit_code}")
        try:
            await anyio.to_thread.run_sync(self._refuse, round_id, refusal)
        except (httpx.HTTPError, ExchangeError) as error:
            _log.warning("could not report the crash of %s: %s", flow_run.id, error)

    def _await_work(self) -> str | None:
        return self._exchange.await_work(after=self._last)

    def _refuse(self, round_id: str, refusal: Refusal) -> None:
        with ExchangeClient.connect(
            self._site.settings.api_url, self._site.credential, ca_file=self._site.settings.ca_file
        ) as exchange:
            exchange.put(UUID(round_id), "refusal", refusal.encode())
