"""Asking the stack's servers whether they serve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from deployments.local_api import local_transport
from deployments.settings import StackSettings
from deployments.stack.services import Service

_TIMEOUT_S = 2.0


@contextmanager
def health_client(settings: StackSettings) -> Iterator[httpx.Client]:
    """Opens a client that takes the API's own certificate for what it is."""
    mounts = {settings.local_api_url: local_transport(settings)}
    with httpx.Client(timeout=_TIMEOUT_S, trust_env=False, mounts=mounts) as client:
        yield client


def is_healthy(client: httpx.Client, service: Service) -> bool:
    """Whether a service answers its health check with 200."""
    if service.health_url is None:
        return False
    auth = None if service.health_auth is None else httpx.BasicAuth(*service.health_auth)
    try:
        return client.get(service.health_url, auth=auth).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False  # not listening yet
