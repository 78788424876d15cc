"""The variables that a hospital's process keeps; every other one may be a secret and goes.

    os.execve(program, command, allowed_environment(os.environ) | CLEAN)

A list of what is allowed, not of what is forbidden: nobody knows what the shell, the service
manager or the container of a hospital has put into the environment.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Final

from tasks.hospital.site import SiteSettings

CLEAN: Final = {"FEDMED_ENVIRONMENT": "clean"}
"""Says to a hospital's command that it began with a clean environment."""

_SYSTEM: Final = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "COLUMNS"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
    | {"PYTHONPATH", "PYTHONHOME", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONUTF8"}
    | {"JE_ARROW_MALLOC_CONF", "FLWR_TELEMETRY_ENABLED", "MLFLOW_DISABLE_TELEMETRY"}
    | {"DO_NOT_TRACK", "CUDA_VISIBLE_DEVICES", "GIT_PYTHON_REFRESH"}
)
_SYSTEM_PREFIXES: Final = ("LC_", "OMP_", "MKL_", "KMP_", "OPENBLAS_", "NUMEXPR_", "MALLOC_")
_PREFECT: Final = frozenset(
    {
        "PREFECT_API_URL",
        "PREFECT_HOME",
        "PREFECT_API_SSL_CERT_FILE",
        "PREFECT_API_REQUEST_TIMEOUT",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED",
        "PREFECT_CLIENT_MAX_RETRIES",
        "PREFECT_CLIENT_RETRY_EXTRA_CODES",
        "PREFECT_CLIENT_RETRY_JITTER_FACTOR",
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY",
        "PREFECT_LOGGING_LEVEL",
        "PREFECT_SERVER_ANALYTICS_ENABLED",
        "PREFECT_WORKER_HEARTBEAT_SECONDS",
        "PREFECT__FLOW_RUN_ID",
    }
)
# Where the local stack lies, and where on the operator's own machine the secrets lie: a place that
# the confined process cannot read.
_STACK: Final = frozenset(
    {"FEDMED_HOME", "FEDMED_PREFECT_PORT", "FEDMED_MLFLOW_PORT", "FEDMED_API_PORT"}
    | {"FEDMED_SECRETS", "FEDMED_PREFECT_SOCKET"}
)
_SITE: Final = frozenset(f"FEDMED_{name.upper()}" for name in SiteSettings.model_fields)
_NAMES: Final = _SYSTEM | _PREFECT | _STACK | _SITE | CLEAN.keys()


def is_allowed(name: str) -> bool:
    """Whether a hospital's process keeps the variable of this name."""
    return name in _NAMES or name.startswith(_SYSTEM_PREFIXES)


def allowed_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables that a hospital's process keeps."""
    return {name: value for name, value in environment.items() if is_allowed(name)}


def keep_allowed(environment: MutableMapping[str, str]) -> None:
    """Takes all other variables out of an environment."""
    for name in [name for name in environment if not is_allowed(name)]:
        del environment[name]
