"""What the gateway works with, made once when the app starts."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Protocol

from api.gateway.own import OwnObjects
from api.gateway.upstream import Upstream

# Prefect has a single event loop: more questions at once only make each of them slower.
_ASKINGS_AT_A_TIME: Final = 8


class Dispatch(Protocol):
    """Says when a hospital's question for work is worth asking."""

    async def await_work(self, pool: str, *, deadline: float) -> bool:
        """Waits, until ``deadline`` in the event loop's time at most.

        Returns:
            True to ask the Prefect server now; False when the time is over.
        """

    def looked(self, pool: str, *, found: bool) -> None:
        """The server was asked, and had runs or had none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The gateway's parts.

    Attributes:
        upstream: the Prefect server.
        own: whose Prefect's objects are.
        dispatch: when to ask for work.
        sockets: open event sockets by hospital.
        askings: bounds how many questions for work are asked upstream at a time.
    """

    upstream: Upstream
    own: OwnObjects
    dispatch: Dispatch
    sockets: Counter[str] = field(default_factory=Counter)
    askings: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_ASKINGS_AT_A_TIME)
    )
