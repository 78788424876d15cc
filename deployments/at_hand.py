"""The exchange for a command: a person waits, so it is not tried for long.

with exchange_at_hand(settings) as exchange:
    exchange.roster()
"""

from __future__ import annotations

from typing import Final

from tasks.hospital.exchange import ExchangeClient
from tasks.hospital.site import SiteSettings, auth_of
from tasks.hospital.tokens import HospitalAuth

_RETRY_FOR_S: Final = 2.0


def exchange_at_hand(settings: SiteSettings, auth: HospitalAuth | None = None) -> ExchangeClient:
    """Opens the exchange as this hospital, signed in by ``auth`` or else by its own credential.

    Raises:
        ExchangeUntrusted: the credential must not be sent to the coordinator's address.
    """
    return ExchangeClient.connect(settings.way, auth or auth_of(settings), retry_for_s=_RETRY_FOR_S)
