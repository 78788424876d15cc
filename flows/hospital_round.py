"""The flow that runs at a hospital: one run a round, its stages are messages on the exchange."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from fl.invitation import RoundInvitation
from fl.names import HOSPITAL_FLOW
from privacy.noise import SecureGenerator
from tasks.hospital.exchange import ExchangeClient, ExchangeError
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import SiteSettings, open_site
from tasks.hospital.stages import take_part


@flow(
    name=HOSPITAL_FLOW,
    persist_result=False,
    # Nothing is stored; without a place Prefect asks the server for one, and loads what it says.
    result_storage=Path("results"),
    log_prints=False,
)
def hospital_round(invitation: RoundInvitation) -> State[None]:
    """Takes part in the round that the invitation describes.

    Ends as Failed, with the refusal's own words, when this hospital takes no part; an exception
    would carry a traceback to the server.
    """
    logger = get_run_logger()
    site = open_site(SiteSettings())  # of this process's environment
    settings = site.settings
    with ExchangeClient.connect(
        settings.api_url, site.credential, uds=settings.coordinator_socket
    ) as exchange:
        try:
            seconds = take_part(site, invitation, exchange, generator=SecureGenerator.from_os())
        except (Refusal, ExchangeError) as refusal:
            return Failed(message=f"{type(refusal).__name__}: {refusal}")
    spent = ", ".join(f"{stage} {value:.3f} s" for stage, value in seconds.items())
    logger.info("round %s of training %s: %s", invitation.number, invitation.training_id, spent)
    return Completed(message=spent)
