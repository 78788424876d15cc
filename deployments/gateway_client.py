"""How a hospital's Prefect clients reach the coordinator's gateway, each request signed in.

The token is short-lived, so it is no setting of Prefect's: every client asks `HospitalAuth` for it.
"""

from __future__ import annotations

from prefect._internal.websockets import websocket_connect
from prefect.events import utilities
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker
from websockets import Subprotocol

from tasks.hospital.tokens import HospitalAuth


class HospitalEventsClient(PrefectEventsClient):
    """Prefect's events client, which opens each connection with the token of that moment."""

    def __init__(self, *, auth: HospitalAuth) -> None:
        super().__init__()
        self._auth = auth

    async def _reconnect(self) -> None:
        if self._websocket is not None:
            self._websocket = None
            await self._connect.__aexit__(None, None, None)
        token = self._auth.token
        if token is None:
            # The worker's other requests have been signed in before it has anything to tell.
            raise ConnectionError("the hospital is not signed in at the coordinator")
        self._connect = websocket_connect(
            self._events_socket_url,
            subprotocols=[Subprotocol("prefect")],
            additional_headers={"Authorization": f"Bearer {token.value}"},
        )
        await super()._reconnect()


def sign_events_in(auth: HospitalAuth) -> None:
    """Has this process's events go out signed in; they are sent by a thread of Prefect's own."""
    EventsWorker.set_client_override(HospitalEventsClient, auth=auth)
    # Prefect drops in silence what would go out by a class that is none of its own; it looks this
    # name up for each event.
    vars(utilities)["PrefectEventsClient"] = HospitalEventsClient
