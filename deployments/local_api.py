"""The way to the API from its own machine."""

from __future__ import annotations

import httpx

from api.certificates import CertificateUnusable, pinned_context
from api.serving import ServingSettings
from deployments.errors import OperatorError


def local_transport(settings: ServingSettings) -> httpx.HTTPTransport:
    """Returns what carries requests to `local_api_url`.

    On the machine itself the API is reached under an address that its certificate does not name:
    that very certificate, read from its file, is what is trusted instead.

    Raises:
        OperatorError: the certificate's file cannot be used.
    """
    if settings.tls is None:
        return httpx.HTTPTransport(trust_env=False)
    certificate, _ = settings.tls
    try:
        context = pinned_context(certificate)
    except CertificateUnusable as error:
        raise OperatorError(str(error)) from None
    return httpx.HTTPTransport(verify=context, trust_env=False)
