"""What the Prefect server says about runs that wait for a worker, for all hospitals at once.

    upstream = ScheduledRuns(url, client, auth_string)
    async with upstream.events() as pools:
        async for pool in pools: ...          # a run was scheduled in this work pool, right now
    await upstream.due(["hospital-charite"], before=now)

Plain HTTP and a plain websocket: importing Prefect costs seconds and a hundred megabytes.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from api.prefect_api import HOSPITAL_WORKER_TYPE, PrefectRefused, PrefectUnavailable

# The most runs that Prefect lists in one answer.
PAGE: Final = 200
# Prefect leaves out what happens after `until`, and takes the moment of asking for it unless told.
_FOR_EVER: Final = "9999-01-01T00:00:00Z"
_SCHEDULED_IN_A_HOSPITAL_S_POOL: Final = {
    "occurred": {"since": "2020-01-01T00:00:00Z", "until": _FOR_EVER},
    "event": {"prefix": ["prefect.flow-run."]},
    "resource": {"labels": {"prefect.state-type": "SCHEDULED"}},
    "related": {
        "labels": {
            "prefect.resource.role": "work-pool",
            "prefect.work-pool.type": HOSPITAL_WORKER_TYPE,
        }
    },
}
# The library writes each frame to its log at DEBUG, and the first one carries the secret.
_socket_log = logging.getLogger(f"{__name__}.socket")
_socket_log.setLevel(logging.INFO)


@dataclass(frozen=True, slots=True)
class DueRun:
    """A run that waits for a worker of ``pool``, to begin at ``at``."""

    pool: str
    at: datetime


class ScheduledRuns:
    """The Prefect server's scheduled runs in the hospitals' pools.

    Args:
        url: the API's address, ends in ``/api``.
        client: carries the queries; its credentials and time limits are its owner's.
        auth_string: ``user:password`` when the server asks for one.
    """

    def __init__(
        self, url: str, client: httpx.AsyncClient, auth_string: SecretStr | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._client = client
        self._auth_string = auth_string

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[str]]:
        """Subscribes to the server's events and yields the pool of each newly scheduled run.

        Prefect sends the event before it commits the run, so that a query may not see it yet.
        What happened before, or while the subscription was lost, is not repeated.

        Raises:
            PrefectUnavailable: the server cannot be reached; the iterator, that it is lost.
            PrefectRefused: it does not take the credentials, or answers with something else.
        """
        try:
            async with connect(
                "ws" + self._url.removeprefix("http") + "/events/out",
                subprotocols=[Subprotocol("prefect")],
                additional_headers=self._headers(),
                logger=_socket_log,
                proxy=None,
            ) as socket:
                await self._sign_in(socket)
                await socket.send(
                    json.dumps(
                        {
                            "type": "filter",
                            "backfill": False,
                            "filter": _SCHEDULED_IN_A_HOSPITAL_S_POOL,
                        }
                    )
                )
                yield _pools_of(socket)
        except (OSError, TimeoutError, WebSocketException) as error:
            raise PrefectUnavailable(
                f"Prefect's events at {self._url} are not available ({type(error).__name__}: "
                f"{error})"
            ) from error

    async def due(self, pools: Collection[str], *, before: datetime) -> list[DueRun]:
        """Returns runs of these pools that are to begin before a time, the earliest first.

        Of a pool with very many of them, not all; of each pool that has any, at least one.

        Raises:
            PrefectUnavailable: the server cannot be reached, or failed.
            PrefectRefused: it refused the query.
        """
        runs = await self._page({"type": {"any_": [HOSPITAL_WORKER_TYPE]}}, before)
        found = [run for run in runs if run.pool in pools]
        left = set(pools)
        # A page may be full of runs of pools that nobody asks for, or of one pool's: what the
        # others have is asked for by their names, which costs the server more.
        while left and len(runs) == PAGE:
            left -= {run.pool for run in runs}
            if left:
                runs = await self._page({"name": {"any_": sorted(left)}}, before)
                found += runs
        return found

    async def _page(self, work_pools: dict[str, Any], before: datetime) -> list[DueRun]:
        body = {
            "sort": "EXPECTED_START_TIME_ASC",
            "limit": PAGE,
            "work_pools": work_pools,
            "flow_runs": {
                "state": {"type": {"any_": ["SCHEDULED"]}},
                "next_scheduled_start_time": {"before_": before.isoformat()},
            },
        }
        try:
            answer = await self._client.post(f"{self._url}/flow_runs/filter", json=body)
        except httpx.TransportError as error:
            raise PrefectUnavailable(
                f"Prefect at {self._url} does not answer ({type(error).__name__})"
            ) from error
        if answer.is_server_error:
            raise PrefectUnavailable(f"Prefect: listing runs failed with {answer.status_code}")
        if not answer.is_success:
            raise PrefectRefused(f"Prefect: listing runs: {answer.status_code}")
        try:
            return [
                DueRun(
                    run["work_pool_name"],
                    datetime.fromisoformat(run["next_scheduled_start_time"]),
                )
                for run in answer.json()
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise PrefectRefused(
                f"Prefect: listing runs answered something else than runs ({error!r})"
            ) from error

    def _headers(self) -> dict[str, str]:
        # For a proxy before the server; the server itself reads the first frame.
        if self._auth_string is None:
            return {}
        encoded = base64.b64encode(self._auth_string.get_secret_value().encode()).decode()
        return {"Authorization": f"Basic {encoded}"}

    async def _sign_in(self, socket: ClientConnection) -> None:
        token = self._auth_string and self._auth_string.get_secret_value()
        await socket.send(json.dumps({"type": "auth", "token": token}))
        if _parsed(await socket.recv()).get("type") != "auth_success":
            raise PrefectRefused(
                "Prefect's events: the server does not take PREFECT_API_AUTH_STRING"
            )


async def _pools_of(socket: ClientConnection) -> AsyncIterator[str]:
    async for message in socket:
        for pool in _pools_in(_parsed(message)):
            yield pool
    raise PrefectUnavailable("the Prefect server has closed the subscription to its events")


def _pools_in(message: dict[str, Any]) -> Iterator[str]:
    try:
        for resource in message["event"]["related"]:
            if resource["prefect.resource.role"] == "work-pool":
                yield str(resource["prefect.resource.name"])
    except (KeyError, TypeError) as error:
        raise PrefectRefused(f"Prefect sent something else than an event: {error!r}") from error


def _parsed(message: str | bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(message)
    except ValueError:
        raise PrefectRefused("Prefect's events: a message is not JSON") from None
    if not isinstance(parsed, dict):
        raise PrefectRefused("Prefect's events: a message is not a JSON object")
    return parsed
