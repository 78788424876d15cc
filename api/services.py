"""What the routes work with, made once when the app starts and handed to them as a dependency.

def route(services: ServicesDep) -> ...:
    with transaction(services.engine) as session: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import anyio
from fastapi import Depends, Request
from sqlalchemy.engine import Engine

from api.auth.passwords import Passwords
from api.auth.tokens import SigningKey, Tokens
from api.gateway.gateway import Gateway
from api.hub import Hub
from api.prefect_api import PrefectApi
from api.settings import ApiSettings
from db.blobs import BlobStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The app's parts.

    Attributes:
        password_slots: bounds how many passwords are checked at a time: each takes 19 MiB.
        now: the clock, in UTC.
    """

    settings: ApiSettings
    engine: Engine
    blobs: BlobStore
    hub: Hub
    prefect: PrefectApi
    gateway: Gateway
    signing_key: SigningKey
    tokens: Tokens
    passwords: Passwords
    password_slots: anyio.CapacityLimiter
    now: Callable[[], datetime]


def get_services(request: Request) -> Services:
    """The app's parts, from where its start has put them."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]
