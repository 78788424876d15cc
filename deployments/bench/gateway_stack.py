"""What the gateway's benchmark needs in the stack, and what the stack's processes use."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import tenacity

from api.auth.key_ring import KeyRing
from api.auth.scopes import EXCHANGE, TRAINING_READ
from api.auth.tokens import Tokens
from api.prefect_api import HOSPITAL_WORKER_TYPE, NO_VARIABLES
from api.settings import ApiSettings
from db.embedded import running_embedded
from db.queries import credentials, hospitals, models, trainings
from db.session import connect, transaction
from db.settings import DatabaseSettings
from deployments.bench.rounds import free_ports
from deployments.demo_data import demo_model
from deployments.errors import StackNotRunning
from deployments.settings import LOOPBACK, StackSettings
from deployments.stack.prefect_secret import prefect_secret
from fl.names import HOSPITAL_FLOW, pool_name
from privacy.calibration import plan_for
from privacy.settings import PrivacySettings

_TOKEN_LIFETIME_S: Final = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the benchmark calls.

    Attributes:
        tokens: the ``Authorization`` of each hospital, by its id.
        operator: the ``Authorization`` of a reader of trainings.
        deployment_id: creates runs in the pool of the hospital that works.
        status_path: the status of a training that nobody runs.
    """

    tokens: dict[str, str]
    operator: str
    deployment_id: str
    status_path: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children have used up to a moment."""

    at: float
    cpu_s: float
    rss_mb: float
    pss_mb: float


def usage(pid: int) -> Usage:
    """Reads what a process and its children have used."""
    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    memory = [process.memory_full_info() for process in family]
    return Usage(
        at=time.perf_counter(),
        cpu_s=sum(sum(process.cpu_times()[:2]) for process in family),
        rss_mb=sum(entry.rss for entry in memory) / 1e6,
        pss_mb=sum(entry.pss for entry in memory) / 1e6,
    )


def prepare(settings: StackSettings, *, idle: int, working: str) -> Prepared:
    """Adds the hospitals, their pools, and a deployment in the pool of the one that works."""
    ids = [working, *(f"idle-{number}" for number in range(idle))]
    status_path = _write_rows(settings, ids)
    tokens = Tokens(
        KeyRing(
            settings.secrets,
            longest_lifetime_s=_TOKEN_LIFETIME_S,
            clock=lambda: datetime.now(UTC),
        ),
        issuer=settings.api_url,
        audience=str(ApiSettings.model_fields["audience"].default),
        lifetime_s=_TOKEN_LIFETIME_S,
        hospital_lifetime_s=_TOKEN_LIFETIME_S,
        clock=lambda: datetime.now(UTC),
    )
    with httpx.Client(
        base_url=settings.prefect_api_url,
        headers={"Authorization": prefect_authorization(settings)},
        trust_env=False,
        timeout=60,
    ) as prefect:
        for hospital_id in ids:
            pool = {
                "name": pool_name(hospital_id),
                "type": HOSPITAL_WORKER_TYPE,
                "base_job_template": NO_VARIABLES,
            }
            prefect.post("/work_pools/", json=pool).raise_for_status()
        deployment_id = _add_deployment(prefect, working)
    return Prepared(
        tokens={
            hospital_id: "Bearer "
            + tokens.issue(
                subject=f"hospital:{hospital_id}",
                scopes=frozenset({EXCHANGE}),
                generation=1,
                hospital_id=hospital_id,
                client_id=hospital_id,
            )
            for hospital_id in ids
        },
        operator="Bearer "
        + tokens.issue(subject="user:operator", scopes=frozenset({TRAINING_READ}), generation=1),
        deployment_id=deployment_id,
        status_path=status_path,
    )


def prefect_authorization(settings: StackSettings) -> str:
    """Returns the ``Authorization`` of the coordinator's own calls to the Prefect server."""
    secret = prefect_secret(settings)
    if secret is None:
        return ""
    return f"Basic {base64.b64encode(secret.encode()).decode()}"


@contextmanager
def bare_app(body: Path) -> Iterator[int]:
    """Serves a file with the bare framework, with the API's options; yields the port."""
    (port,) = free_ports(1)
    with subprocess.Popen(  # noqa: S603 - our own argument vector
        [
            *(sys.executable, "-m", "uvicorn"),
            *("--factory", "deployments.bench.bare:app_from_environment"),
            *("--host", LOOPBACK, "--port", str(port), "--no-access-log"),
        ],
        env={**os.environ, "FEDMED_BENCH_BODY": str(body)},
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            tenacity.Retrying(
                retry=tenacity.retry_if_exception_type(httpx.TransportError),
                wait=tenacity.wait_fixed(0.1),
                stop=tenacity.stop_after_delay(30),
            )(httpx.get, f"http://{LOOPBACK}:{port}/", trust_env=False)
            yield port
        finally:
            process.terminate()


def _write_rows(settings: StackSettings, ids: list[str]) -> str:
    """Writes the hospitals, and a training that nobody runs; returns the path of its status."""
    server = running_embedded(settings.home / "postgres")
    if server is None:
        raise StackNotRunning(f"no PostgreSQL runs in {settings.home / 'postgres'}")
    engine = connect(DatabaseSettings(database_url=server.url("fedmed")))
    spec = demo_model()
    plan = plan_for(PrivacySettings().request(), rounds=1)
    with transaction(engine) as session:
        for hospital_id in ids:
            hospitals.add_hospital(session, hospital_id=hospital_id, name=hospital_id.title())
            credentials.add_client(
                session,
                client_id=hospital_id,
                secret_digest=sha256(f"secret {hospital_id}".encode()).hexdigest(),
                hospital_id=hospital_id,
            )
            hospitals.publish_identity(
                session,
                hospital_id=hospital_id,
                signing_key=sha256(f"signing {hospital_id}".encode()).hexdigest(),
                sealing_key=sha256(f"sealing {hospital_id}".encode()).hexdigest(),
            )
        model = models.add_model(session, name=spec.name, spec=spec.model_dump(mode="json"))
        training = trainings.add_training(
            session,
            model_id=model.id,
            rounds=1,
            strategy={},
            plan=plan.model_dump(mode="json"),
            epsilon=8.0,
            delta=plan.delta,
            least_cohort=3,
            round_deadline_s=60,
            requested_by="user:operator",
        )
        path = f"/training/status/{training.id}"
    engine.dispose()
    return path


def _add_deployment(prefect: httpx.Client, hospital_id: str) -> str:
    def call(path: str, body: dict[str, Any]) -> str:
        return str(prefect.post(path, json=body).raise_for_status().json()["id"])

    return call(
        "/deployments/",
        {
            "name": hospital_id,
            "flow_id": call("/flows/", {"name": HOSPITAL_FLOW}),
            "work_pool_name": pool_name(hospital_id),
            "entrypoint": "none:none",
        },
    )
