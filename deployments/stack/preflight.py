"""What is checked before the stack starts anything: that it can be served, and served safely."""

from __future__ import annotations

from datetime import UTC, datetime

from api.certificates import RENEW_WITHIN, check_pair
from api.serving import require_safe, serves_plainly
from deployments.errors import OperatorError
from deployments.settings import StackSettings
from deployments.stack.databases import external_databases


def check_serving(settings: StackSettings) -> list[str]:
    """Checks the settings and the certificate; returns what the person should be warned of.

    Raises:
        ServingUnsafe: secrets would travel in the open, or nobody could connect.
        CertificateUnusable: the certificate or its key.
        OperatorError: the database's address.
    """
    require_safe(settings)
    if settings.database_url is not None:
        try:
            external_databases(settings.database_url.get_secret_value())
        except ValueError as error:
            raise OperatorError(f"FEDMED_DATABASE_URL: {error}") from None
    warnings = []
    if serves_plainly(settings):
        warnings.append(
            f"FEDMED_ALLOW_PLAIN_HTTP: {settings.api_url} is not encrypted; anyone on the way can "
            "read passwords and tokens"
        )
    if settings.tls is not None:
        now = datetime.now(UTC)
        expires = check_pair(*settings.tls, now=now)
        if expires - now < RENEW_WITHIN:
            warnings.append(
                f"FEDMED_TLS_CERT: {settings.tls_cert} expires on {expires:%Y-%m-%d}; renew it"
            )
    return warnings
