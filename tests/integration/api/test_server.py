"""The API as a process: it starts from the environment and ends at once, long polls or not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import tenacity
from sqlalchemy import Engine

from api.auth.key_ring import KeyRing
from api.auth.tokens import Tokens
from db.queries import credentials, hospitals
from db.session import transaction

pytestmark = pytest.mark.integration


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(database_url: str, directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "FEDMED_DATABASE_URL": database_url,
        "FEDMED_ARTIFACTS": str(directory / "blobs"),
        "FEDMED_SECRETS": str(directory / "secrets"),
        "FEDMED_API_URL": url,
        # A test run under coverage must not have the server write its own data.
        "COVERAGE_PROCESS_START": "",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:app_from_environment"]
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--no-access-log"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        healthy(url, process, log)
        yield process, url
    finally:
        process.kill()
        process.wait()


def healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def ask() -> bool:
        assert process.poll() is None, log.read_text()
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200

    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(httpx.TransportError)
        | tenacity.retry_if_result(lambda answered: not answered),
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(60),
    )(ask)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_at_once_with_long_polls_open(
    engine: Engine, database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    with transaction(engine) as session:
        hospitals.add_hospital(session, hospital_id="north", name="North")
        credentials.add_client(
            session, client_id="north", secret_digest="0" * 64, hospital_id="north"
        )
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
                f"{url}/exchange/work",
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
    assert "Finished server process" in log
