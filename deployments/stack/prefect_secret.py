"""The Prefect server's one secret, ``user:password``: whoever has it may do anything there.

It belongs to the coordinator's own processes. People sign in to the Prefect UI with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from api.auth import secret_files
from api.auth.passwords import new_secret
from deployments.settings import StackSettings

FILE: Final = "prefect-auth"
_USER: Final = "operator"


def prefect_secret_file(settings: StackSettings) -> Path | None:
    """Returns where the embedded server's secret lies; None when it was given as a setting."""
    if settings.prefect_url is not None or settings.prefect_auth_string is not None:
        return None
    return settings.secrets / FILE


def prefect_secret(settings: StackSettings) -> str | None:
    """Returns the secret, made at the first start; None when a server of others asks for none.

    Raises:
        SecretExposed: the file or its directory is open to others.
    """
    if settings.prefect_auth_string is not None:
        return settings.prefect_auth_string.get_secret_value()
    path = prefect_secret_file(settings)
    if path is None:
        return None
    return (
        secret_files.read_or_create(path, lambda: f"{_USER}:{new_secret()}\n".encode())
        .decode("ascii")
        .strip()
    )
