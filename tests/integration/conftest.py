"""Who takes part in the tests beside what they test: hospitals' keys, and Prefect servers.

One Prefect is real, on the tests' PostgreSQL, another is made of a dictionary.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import tenacity
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.auth.passwords import secret_digest
from db.embedded import EmbeddedServer, ensure_databases
from fl.invitation import RosterEntry, RoundInvitation
from fl.joining import code_digest, join_statement, parse_join_code
from fl.spec import ModelSpec
from privacy.plan import PrivacyPlan


@dataclass(frozen=True)
class HospitalKeys:
    """What a hospital makes itself, the same for the same name."""

    name: str

    @property
    def signing(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._bytes("signing_key"))

    @property
    def secret(self) -> str:
        return self._bytes("secret").hex()

    @property
    def public(self) -> dict[str, str]:
        return {
            "signing_key": self.signing.public_key().public_bytes_raw().hex(),
            "sealing_key": self._bytes("sealing_key").hex(),
        }

    def sign(self, statement: bytes) -> str:
        return self.signing.sign(statement).hex()

    def join_request(self, code: str) -> dict[str, Any]:
        digest = secret_digest(self.secret)
        statement = join_statement(
            code_digest=code_digest(parse_join_code(code)), **self.public, secret_digest=digest
        )
        proof = self.sign(statement)
        return {"code": code, **self.public, "client_secret_sha256": digest, "proof": proof}

    def _bytes(self, what: str) -> bytes:
        return hashlib.sha256(f"{what} of {self.name}".encode()).digest()


@pytest.fixture
def keys_made_by() -> type[HospitalKeys]:
    """The keys and the secret of a hospital, by a name."""
    return HospitalKeys


@dataclass
class FakePrefect:
    """As much of Prefect's API as is called; ``down`` and ``refuses`` make it fail."""

    pools: dict[str, Any] = field(default_factory=dict)
    deployments: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    down: bool = False
    refuses: bool = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("nobody there", request=request)
        if self.refuses:
            return httpx.Response(409, json={"detail": "not that"})
        path = request.url.path.removeprefix("/api")
        body = json.loads(request.content) if request.content else {}
        match request.method, path.strip("/").split("/"):
            case "POST", ["work_pools"]:
                if body["name"] in self.pools:
                    return httpx.Response(409, json={"detail": "exists"})
                self.pools[body["name"]] = {"id": str(uuid4()), **body}
                return httpx.Response(201, json=self.pools[body["name"]])
            case "GET", ["work_pools", name]:
                return httpx.Response(200, json=self.pools[name])
            case "POST", ["flows"]:
                return httpx.Response(201, json={"id": str(uuid4())})
            case "POST", ["deployments"]:
                self.deployments[f"hospital-round/{body['name']}"] = body
                return httpx.Response(201, json={"id": str(uuid4())})
            case "GET", ["deployments", "name", flow, name]:
                return httpx.Response(200, json={"id": f"{flow}.{name}"})
            case "POST", ["deployments", deployment, "create_flow_run"]:
                run = {"id": str(uuid4()), "deployment": deployment, **body}
                return httpx.Response(201, json=self.runs.setdefault(body["idempotency_key"], run))
        return httpx.Response(404, json={"detail": f"no {path}"})


@pytest.fixture
def fake_prefect() -> FakePrefect:
    return FakePrefect()


@dataclass(frozen=True)
class PrefectServer:
    """A real server as its owner sees it; ``secret`` is ``user:password`` when it asks for one."""

    url: str
    secret: str = ""

    @property
    def auth(self) -> httpx.BasicAuth | None:
        return httpx.BasicAuth(*self.secret.split(":")) if self.secret else None


StartPrefect = Callable[..., AbstractContextManager[PrefectServer]]


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return _free_port


@pytest.fixture(scope="session")
def start_prefect(
    postgres: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> StartPrefect:
    """Starts a Prefect server on a database of its own, by name, until the block ends."""
    return partial(_prefect, postgres, tmp_path_factory.mktemp("prefect"))


@contextmanager
def _prefect(
    postgres: EmbeddedServer, home: Path, database: str, *, secret: str = ""
) -> Iterator[PrefectServer]:
    ensure_databases(postgres, (database,))
    port = _free_port()
    environment = {
        **os.environ,
        "PREFECT_API_DATABASE_CONNECTION_URL": postgres.asyncpg_url(database),
        "PREFECT_HOME": str(home / database),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_UI_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    if secret:
        environment["PREFECT_SERVER_API_AUTH_STRING"] = secret
    command = [sys.executable, "-m", "prefect", "server", "start"]
    log = home / f"{database}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, to end its children with it
        )
    url = f"http://127.0.0.1:{port}/api"
    try:
        _await_health(url, process, log)
        yield PrefectServer(url, secret)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_health(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def ask() -> bool:
        assert process.poll() is None, log.read_text()
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200

    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(httpx.TransportError)
        | tenacity.retry_if_result(lambda healthy: not healthy),
        wait=tenacity.wait_fixed(0.2),
        stop=tenacity.stop_after_delay(120),
    )(ask)


@pytest.fixture
def round_invitation() -> dict[str, Any]:
    """The invitation to a round, as JSON, that the deployment of a hospital accepts."""
    model = {
        "name": "breast-cancer",
        "architecture": {"kind": "mlp", "hidden": [4]},
        "contract": {
            "columns": [{"name": "radius", "minimum": 0, "maximum": 30}],
            "label": {"name": "malignant"},
        },
    }
    return RoundInvitation(
        round_id=uuid4(),
        training_id=uuid4(),
        number=1,
        kind="training",
        model=ModelSpec.model_validate(model),
        weights="0" * 64,
        plan=PrivacyPlan(
            clip_norm=1,
            noise_multiplier=1,
            sampling_rate=0.2,
            expected_batch_size=32,
            evaluation_noise_multiplier=4.0,
            steps_per_round=5,
            rounds=2,
            delta=1e-5,
        ),
        train_config={"proximal-mu": 0.1},
        roster=tuple(
            RosterEntry(hospital_id=f"h{n}", index=n, signing_key="a" * 64, sealing_key="b" * 64)
            for n in (1, 2, 3)
        ),
        deadline_s=60,
    ).model_dump(mode="json")
