"""The way to the API from its own machine."""

from __future__ import annotations

import httpx

from api.certificates import pinned_context
from api.serving import ServingSettings


def local_transport(settings: ServingSettings) -> httpx.HTTPTransport:
    """Returns what carries requests to `local_api_url`.

    On the machine itself the API is reached under an address that its certificate does not name:
    that very certificate, read from its file, is what is trusted instead.
    """
    if settings.tls is None:
        return httpx.HTTPTransport(trust_env=False)
    certificate, _ = settings.tls
    return httpx.HTTPTransport(verify=pinned_context(certificate), trust_env=False)
