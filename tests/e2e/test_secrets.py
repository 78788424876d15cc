"""After a training no secret is where it is kept or shown: logs, databases, command lines."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest
from sqlalchemy import Engine, inspect, text

pytestmark = pytest.mark.e2e

SHORTEST: Final = 16
# Every access token begins so, whoever it was issued to (RFC 7519, section 3.1).
TOKEN: Final = re.compile(rb"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")


def forms(name: str, secret: bytes) -> dict[str, bytes]:
    """A secret as it may turn up: itself, in hex and in base64, which Basic authentication uses."""
    assert len(secret) >= SHORTEST, name
    encoded = base64.b64encode(secret)
    return {
        name: secret,
        f"{name} in hex": secret.hex().encode(),
        # The end of base64 depends on what follows.
        f"{name} in base64": encoded[: len(secret) // 3 * 4],
        f"{name} in base64url": base64.urlsafe_b64encode(secret)[: len(secret) // 3 * 4],
    }


def secrets_of(stack: Any) -> dict[str, bytes]:
    """Every secret on the stack's disk, and a token."""
    folder = stack.settings.secrets
    pem = (folder / "signing-key.pem").read_text().splitlines()
    found = {
        "operator's password": json.loads((folder / "operator.json").read_text())["password"],
        "Prefect's secret": (folder / "prefect-auth").read_text().strip(),
        "Prefect's password": (folder / "prefect-auth").read_text().strip().partition(":")[2],
        "signing key": pem[1],
        "operator's token": stack.api.client.headers["Authorization"].removeprefix("Bearer "),
    }
    raw: dict[str, bytes] = {name: value.encode() for name, value in found.items()}
    for hospital_id in stack.folders:
        with stack.signed_in(hospital_id) as client:
            client.get("/exchange/roster").raise_for_status()
            raw[f"{hospital_id}'s token"] = client.auth.token.value.encode()
        keys = stack.settings.home / "hospitals" / hospital_id / "keys"
        credential = json.loads((keys / "credential.json").read_text())
        raw[f"{hospital_id}'s client secret"] = credential["client_secret"].encode()
        for name in ("signing.key", "sealing.key", "split.key"):
            raw[f"{hospital_id}'s {name}"] = (keys / name).read_bytes()
    assert len(set(raw.values())) == len(raw)
    return {form: value for name, one in raw.items() for form, value in forms(name, one).items()}


def found_in(content: bytes, secrets: Mapping[str, bytes]) -> list[str]:
    """The names of the secrets in it, and any token, known or not."""
    tokens = ["a token"] if TOKEN.search(content) else []
    return tokens + [name for name, secret in secrets.items() if secret in content]


def rows_of(engine: Engine) -> Iterator[tuple[str, bytes]]:
    """Every row of every table of a database, as text."""
    for table in inspect(engine).get_table_names():
        with engine.connect() as connection:
            name = engine.dialect.identifier_preparer.quote(table)
            rows = connection.execute(text(f"SELECT t::text FROM {name} t"))  # noqa: S608
            yield table, "\n".join(row[0] for row in rows).encode()


@pytest.fixture(scope="module")
def secrets(stack: Any) -> dict[str, bytes]:
    return secrets_of(stack)


def test_a_planted_secret_is_found_in_every_form(secrets: dict[str, bytes]) -> None:
    """The search itself: what follows cannot pass because it looks for nothing."""
    for name, secret in secrets.items():
        assert name in found_in(b"2026-11-25 INFO token=" + secret + b"&x=1\n", secrets)
    password = secrets["Prefect's secret"]
    basic = b"Authorization: Basic " + base64.b64encode(password)
    assert "Prefect's secret in base64" in found_in(basic, secrets)
    assert found_in(b"2026-11-25 INFO nothing to see\n", secrets) == []


def test_no_log_holds_a_secret(stack: Any, secrets: dict[str, bytes]) -> None:
    names = {path.name for path in stack.settings.logs.iterdir()}
    assert names >= {
        *("api.log", "prefect.log", "mlflow.log", "coordinator.log", "hospitals.log"),
    }
    assert leaks_in_logs(stack, secrets) == {}
    planted = stack.settings.logs / "planted.log"
    try:
        planted.write_bytes(b"INFO token=" + secrets["hospital-1's token"] + b"\n")
        assert leaks_in_logs(stack, secrets) == {"planted.log": ["a token", "hospital-1's token"]}
    finally:
        planted.unlink()


def leaks_in_logs(stack: Any, secrets: Mapping[str, bytes]) -> dict[str, list[str]]:
    logs = files_below(stack.settings.logs)
    found = {log.name: found_in(log.read_bytes(), secrets) for log in logs}
    return {log: names for log, names in found.items() if names}


@pytest.mark.parametrize("database", ["prefect", "mlflow", "fedmed"])
def test_no_table_holds_a_secret(stack: Any, secrets: dict[str, bytes], database: str) -> None:
    """Logs, parameters and artifacts of runs, parameters and tags of MLflow, the audit record."""
    engine = stack.database(database)
    tables = dict(rows_of(engine))
    engine.dispose()
    filled = {table for table, rows in tables.items() if rows}
    expected = {
        "prefect": {"flow_run", "artifact", "events"},
        "mlflow": {"params", "tags", "metrics"},
        "fedmed": {"audit_events", "clients", "users"},
    }
    assert expected[database] <= filled
    assert {table: found_in(rows, secrets) for table, rows in tables.items()} == {
        table: [] for table in tables
    }


def test_no_command_line_shows_a_secret(stack: Any, secrets: dict[str, bytes]) -> None:
    """Everyone on a machine may read the arguments of its processes."""
    lines = {}
    for process in [psutil.Process(stack.state.pid), *family(stack)]:
        try:
            lines[process.pid] = "\0".join(process.cmdline()).encode()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    assert set(lines) >= {service.pid for service in stack.state.services.values()}
    for line in lines.values():
        assert found_in(line, secrets) == []


def family(stack: Any) -> list[psutil.Process]:
    return psutil.Process(stack.state.pid).children(recursive=True)


def test_what_describes_the_stack_holds_no_secret(stack: Any, secrets: dict[str, bytes]) -> None:
    state = (stack.settings.home / "stack.json").read_bytes()
    assert b'"services"' in state
    assert found_in(state, secrets) == []
    for artifact in files_below(stack.settings.home / "mlflow"):
        assert found_in(artifact.read_bytes(), secrets) == [], artifact


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_every_file_with_a_secret_is_its_owner_s_alone(stack: Any) -> None:
    folders = [
        stack.settings.secrets,
        *(stack.settings.home / "hospitals" / name / "keys" for name in stack.folders),
    ]
    for folder in folders:
        assert folder.stat().st_mode & 0o777 == 0o700, folder
        for file in files_below(folder):
            assert file.stat().st_mode & 0o077 == 0, file


def test_hospitals_and_mlflow_see_none_of_the_coordinator_s_secrets(
    stack: Any, secrets: dict[str, bytes]
) -> None:
    own = ("operator", "signing key", "Prefect's")
    coordinators = {name: value for name, value in secrets.items() if name.startswith(own)}
    assert len(coordinators) == 5 * len(forms("one", b"x" * SHORTEST))
    for service in ("hospitals", "mlflow"):
        process = psutil.Process(stack.state.services[service].pid)
        family = [process, *process.children(recursive=True)]
        seen = [environment for one in family if (environment := environment_of(one))]
        # The hospitals' warm processes let nobody but root look at them.
        assert len(seen) >= (1 + len(stack.folders) if service == "hospitals" else 1)
        for environment in seen:
            assert found_in(json.dumps(environment).encode(), coordinators) == []
            assert "FEDMED_SECRETS" not in environment
            assert not [name for name in environment if "AUTH_STRING" in name]


def environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return dict(process.environ())
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return {}


def test_prefect_answers_nobody_without_its_secret(stack: Any) -> None:
    with httpx.Client(base_url=stack.settings.prefect_api_url, trust_env=False) as anyone:
        assert anyone.get("/health").status_code == 200
        assert anyone.post("/flow_runs/filter", json={}).status_code == 401
        assert anyone.get("/admin/settings").status_code == 401
        wrong = anyone.post("/flow_runs/filter", json={}, auth=("operator", "wrong"))
        assert wrong.status_code == 401
