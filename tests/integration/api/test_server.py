"""The API as a process: it starts from the environment, serves TLS, and ends at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
import tenacity
from sqlalchemy import Engine

from api.auth.key_ring import KeyRing
from api.auth.tokens import Tokens
from api.certificates import pinned_context
from db.models import utc_now
from db.queries import credentials, hospitals, models, rounds, trainings
from db.session import transaction

pytestmark = pytest.mark.integration

SERVE = (sys.executable, "-m", "api.serve")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(
    database_url: str, directory: Path, tls: tuple[Path, Path] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
    files = ("", "") if tls is None else tls
    environment = {
        **os.environ,
        "FEDMED_DATABASE_URL": database_url,
        "FEDMED_ARTIFACTS": str(directory / "blobs"),
        "FEDMED_SECRETS": str(directory / "secrets"),
        "FEDMED_API_URL": url,
        "FEDMED_API_PORT": str(port),
        "FEDMED_TLS_CERT": str(files[0]),
        "FEDMED_TLS_KEY": str(files[1]),
        # A test run under coverage must not have the server write its own data.
        "COVERAGE_PROCESS_START": "",
    }
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            SERVE,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        healthy(url, process, log, True if tls is None else pinned_context(tls[0]))
        yield process, url
    finally:
        process.kill()
        process.wait()


def healthy(
    url: str, process: subprocess.Popen[bytes], log: Path, verify: ssl.SSLContext | bool
) -> None:
    def ask() -> bool:
        assert process.poll() is None, log.read_text()
        return httpx.get(f"{url}/health", trust_env=False, verify=verify).status_code == 200

    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(httpx.TransportError)
        | tenacity.retry_if_result(lambda answered: not answered),
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(60),
    )(ask)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def open_round(engine: Engine, keys_of: Callable[[str], dict[str, str]]) -> UUID:
    """Opens a round to which north is invited, who can sign in."""
    with transaction(engine) as session:
        for name in ("north", "south", "west"):
            hospitals.add_hospital(session, hospital_id=name, name=name.title())
            hospitals.publish_identity(session, hospital_id=name, **keys_of(name))
        credentials.add_client(
            session, client_id="north", secret_digest="0" * 64, hospital_id="north"
        )
        training = trainings.add_training(
            session,
            model_id=models.add_model(session, name="heart", spec={}).id,
            rounds=1,
            strategy={},
            plan={},
            epsilon=1.0,
            delta=1e-5,
            least_cohort=3,
            round_deadline_s=60.0,
            requested_by="user:ada",
        )
        opened = rounds.open_round(
            session,
            training_id=training.id,
            kind="training",
            incoming_weights="0" * 64,
            flow_run_id=None,
            now=utc_now(),
        )
    return opened.id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_at_once_with_long_polls_open(
    engine: Engine,
    database_url: str,
    tmp_path: Path,
    keys_of: Callable[[str], dict[str, str]],
    number: signal.Signals,
) -> None:
    round_id = open_round(engine, keys_of)
    with serving(database_url, tmp_path) as (process, url):
        assert (
            read_json(tmp_path / "secrets" / "operator.json")["token_url"] == f"{url}/oauth/token"
        )
        tokens = Tokens(
            KeyRing(tmp_path / "secrets", longest_lifetime_s=60),
            issuer=url,
            audience="fedmed",
            lifetime_s=60,
        )
        token = tokens.issue(
            subject="hospital:north",
            scopes=frozenset({"exchange"}),
            generation=1,
            hospital_id="north",
            client_id="north",
        )

        def poll() -> httpx.Response:
            return httpx.get(
                f"{url}/exchange/rounds/{round_id}/cohort",
                params={"wait_s": 30},
                headers={"Authorization": f"Bearer {token}"},
                timeout=40,
                trust_env=False,
            )

        with ThreadPoolExecutor(3) as pool:
            polls = [pool.submit(poll) for _ in range(3)]
            with pytest.raises(TimeoutError):  # they wait
                polls[0].result(timeout=1)
            started = time.monotonic()
            process.send_signal(number)
            assert [p.result(timeout=10).status_code for p in polls] == [204, 204, 204]
            process.wait(timeout=10)
            assert time.monotonic() - started < 5
    log = (tmp_path / "server.log").read_text()
    assert "Traceback" not in log
    assert process.returncode == (0 if number == signal.SIGINT else -number)


def serial_of(url: str, authority: Any) -> str:
    """The serial number of the certificate that a new connection is shown."""
    parts = urlsplit(url)
    context = ssl.create_default_context(cafile=authority.file)
    with (
        socket.create_connection((parts.hostname, parts.port)) as plain,
        context.wrap_socket(plain, server_hostname=parts.hostname) as wrapped,
    ):
        shown: Any = wrapped.getpeercert()
        return str(shown["serialNumber"])


def test_https_with_the_usual_headers_and_a_renewal_without_a_restart(
    database_url: str, tmp_path: Path, authority: Any
) -> None:
    with serving(database_url, tmp_path, authority.issue(days=(-1, 2))) as (process, url):
        context = ssl.create_default_context(cafile=authority.file)
        answer = httpx.get(f"{url}/health", verify=context, trust_env=False)
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "server" not in answer.headers
        plain = url.replace("https://", "http://")
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{plain}/health", trust_env=False)
        limits = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
        (soft, most) = next(line for line in limits if "open files" in line).split()[3:5]
        assert soft == most
        before = serial_of(url, authority)
        authority.issue(days=(-1, 90))
        tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda serial: serial == before),
            wait=tenacity.wait_fixed(0.2),
            stop=tenacity.stop_after_delay(30),
        )(serial_of, url, authority)
        assert process.poll() is None


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"FEDMED_API_HOST": "10.0.0.5"}, "api: plain HTTP on 10.0.0.5"),
        ({"FEDMED_TLS_CERT": "/c"}, "api: FEDMED_TLS_KEY is not set"),
        ({"FEDMED_TLS_CERT": "/c", "FEDMED_TLS_KEY": "/k"}, "api: FEDMED_TLS_CERT: /c cannot be"),
    ],
)
def test_what_must_not_be_served_ends_in_one_line(environment: dict[str, str], told: str) -> None:
    ended = subprocess.run(
        SERVE, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(told)
    assert ended.stderr.count("\n") == 1
