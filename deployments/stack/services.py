"""What the local stack runs: each server's command, environment and health check."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deployments.confine import allowed_environment
from deployments.settings import LOOPBACK, StackSettings
from deployments.stack.databases import Databases
from deployments.stack.prefect_secret import prefect_secret
from fl.names import gateway_url
from tasks.hospital.tls import Trust

NO_TELEMETRY: Final = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "FLWR_TELEMETRY_ENABLED": "0",
    "DO_NOT_TRACK": "1",
}
# What a client of a server on the same release asks for at every start and has no use for.
LEAN_CLIENT: Final = {
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
}
# One thread each: the parallelism of a small stack is its processes, and a warm process must not
# have thread pools when it forks.
ONE_THREAD: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Arrow's allocator, which pandas brings, would start a thread at import.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
# A hospital has no business with the coordinator's database, files or secrets; nor has MLflow.
_COORDINATOR_S: Final = (
    *("FEDMED_DATABASE_URL", "FEDMED_ARTIFACTS", "FEDMED_SECRETS"),
    *("FEDMED_TLS_CERT", "FEDMED_TLS_KEY"),
    *("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A server of the stack.

    Attributes:
        name: its name in messages, in ``stack.json`` and of its log file.
        command: argument vector.
        environment: variables on top of the supervisor's own; secrets are passed here, since
            everyone on the machine may read the arguments of a process.
        withheld: variables of the supervisor's own that it does not get.
        health_url: answers 200 once the server serves; None for hospitals, which have no port.
        health_auth: user and password that the health check needs.
        clean: of the supervisor's own environment it gets what a hospital may have, nothing else.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    withheld: tuple[str, ...] = ()
    health_url: str | None = None
    health_auth: tuple[str, str] | None = field(default=None, repr=False)
    clean: bool = False


def client_environment(settings: StackSettings, databases: Databases) -> dict[str, str]:
    """Returns what a process of the coordinator needs to find its servers.

    Raises:
        SecretExposed: a secret on the disk is open to others.
    """
    secret = prefect_secret(settings)
    return {
        **({} if secret is None else {"PREFECT_API_AUTH_STRING": secret}),
        **NO_TELEMETRY,
        **ONE_THREAD,
        **LEAN_CLIENT,
        "FEDMED_HOME": str(settings.home),
        # Prefect's runner keeps a folder of a fixed name there; of another user's it has no use.
        "TMPDIR": str(settings.temporary),
        "FEDMED_DATABASE_URL": databases.fedmed,
        "FEDMED_ARTIFACTS": settings.artifacts_url,
        "FEDMED_SECRETS": str(settings.secrets),
        "FEDMED_API_URL": settings.api_url,
        "FEDMED_MLFLOW_URL": settings.mlflow_url,
        "PREFECT_API_URL": settings.prefect_api_url,
        "PREFECT_HOME": str(settings.home / "prefect"),
        "MLFLOW_TRACKING_URI": settings.mlflow_url,
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def services(
    settings: StackSettings, databases: Databases, *, hospitals: Mapping[str, Path]
) -> tuple[Service, ...]:
    """Returns the stack's servers; ``hospitals`` maps ids to data paths that run here too.

    Raises:
        SecretExposed: a secret on the disk is open to others.
    """
    shared = client_environment(settings, databases)
    auth = shared.get("PREFECT_API_AUTH_STRING")
    stack = [
        *(() if settings.prefect_url else (_prefect(settings, databases, shared),)),
        _mlflow(settings, databases, shared),
        Service(
            name="api",
            command=_python("api.serve"),
            environment={**shared, **settings.serving_environment()},
            health_url=f"{settings.local_api_url}/health",
        ),
        Service(
            name="coordinator",
            command=(*_python("deployments.coordinator"), "--after-stop"),
            # A worker of Prefect asks for runs in an interval: this long a training waits to begin.
            environment={**shared, "PREFECT_WORKER_QUERY_SECONDS": "1"},
            # It has no port; it is ready to work once its deployments are registered.
            health_url=f"{settings.prefect_api_url}/deployments/name/federated-round/federated-round",
            health_auth=None if auth is None else _user_and_password(auth),
        ),
    ]
    if hospitals:
        trust = Trust(ca_file=settings.ca_file)
        pairs = tuple(f"{hospital_id}={path}" for hospital_id, path in hospitals.items())
        stack.append(
            Service(
                name="hospitals",
                command=(*_python("deployments.stack.hospitals"), *pairs),
                environment={
                    **allowed_environment(_without_secrets(shared)),
                    **hospital_prefect(settings.api_url, trust),
                },
                withheld=_COORDINATOR_S,
                clean=True,
            )
        )
    return tuple(stack)


def hospital_prefect(api_url: str, trust: Trust) -> dict[str, str]:
    """Returns how a hospital's process reaches Prefect: through the coordinator's gateway."""
    return {
        "PREFECT_API_URL": gateway_url(api_url),
        **trust.prefect_environment(),
    }


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key not in _COORDINATOR_S}


def _user_and_password(secret: str) -> tuple[str, str]:
    user, _, password = secret.partition(":")
    return user, password


def _python(module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module)


def _prefect(settings: StackSettings, databases: Databases, shared: Mapping[str, str]) -> Service:
    return Service(
        name="prefect",
        command=(
            *_python("prefect"),
            *("server", "start", "--host", LOOPBACK, "--port", str(settings.prefect_port)),
        ),
        environment={
            **shared,
            "PREFECT_SERVER_API_AUTH_STRING": shared["PREFECT_API_AUTH_STRING"],
            "PREFECT_API_DATABASE_CONNECTION_URL": databases.prefect,
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            "PREFECT_UI_API_URL": settings.prefect_api_url,
            "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        },
        health_url=f"{settings.prefect_api_url}/health",
    )


def _mlflow(settings: StackSettings, databases: Databases, shared: Mapping[str, str]) -> Service:
    artifacts = settings.home / "mlflow"
    return Service(
        name="mlflow",
        command=(
            *_python("mlflow"),
            *("server", "--host", LOOPBACK, "--port", str(settings.mlflow_port)),
            *("--workers", "1"),
            *("--artifacts-destination", artifacts.as_uri()),
        ),
        environment={
            **{
                key: value
                for key, value in _without_secrets(shared).items()
                if key != "MLFLOW_TRACKING_URI"
            },
            "MLFLOW_BACKEND_STORE_URI": databases.mlflow,
            # Without this MLflow starts ten processes and takes 1.9 GB.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PATH": os.pathsep.join(
                # MLflow starts uvicorn by name.
                (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))
            ),
        },
        withheld=_COORDINATOR_S,
        health_url=f"{settings.mlflow_url}/health",
    )
