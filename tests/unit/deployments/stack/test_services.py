"""What the stack runs: which process may see what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deployments.settings import StackSettings
from deployments.stack.databases import Databases, external_databases
from deployments.stack.services import Service, hospital_prefect, services
from deployments.stack.supervisor import tail
from tasks.hospital.tls import Trust

DATABASES = Databases(
    fedmed="postgresql+psycopg2://u:p@db/fedmed",
    prefect="postgresql+asyncpg://u:p@db/prefect",
    mlflow="postgresql+psycopg2://u:p@db/mlflow",
)


@pytest.fixture
def stack(settings: StackSettings) -> dict[str, Service]:
    hospitals = {"hospital-1": Path("/data/1"), "hospital-2": Path("/data/2")}
    return {s.name: s for s in services(settings, DATABASES, hospitals=hospitals)}


def test_the_servers_start_in_the_order_in_which_they_need_each_other(
    stack: dict[str, Service], settings: StackSettings
) -> None:
    assert list(stack) == ["prefect", "mlflow", "api", "coordinator", "hospitals"]
    without = services(settings, DATABASES, hospitals={})
    assert [service.name for service in without] == list(stack)[:-1]


def test_hospitals_see_no_database_no_artifacts_and_no_secret(stack: dict[str, Service]) -> None:
    environment = stack["hospitals"].environment
    assert not {"FEDMED_DATABASE_URL", "FEDMED_ARTIFACTS", "FEDMED_SECRETS"} & set(environment)
    assert not any("u:p@db" in value for value in environment.values())
    assert stack["hospitals"].command[-2:] == ("hospital-1=/data/1", "hospital-2=/data/2")
    assert stack["hospitals"].health_url is None


def test_every_server_listens_on_this_machine_alone(stack: dict[str, Service]) -> None:
    for name in ("prefect", "mlflow"):
        command = stack[name].command
        assert command[command.index("--host") + 1] == "127.0.0.1"
    assert stack["api"].environment["FEDMED_API_HOST"] == "127.0.0.1"


def test_prefect_s_secret_is_made_once_for_the_coordinator_s_own_processes(
    stack: dict[str, Service], settings: StackSettings
) -> None:
    file = settings.secrets / "prefect-auth"
    assert file.stat().st_mode & 0o777 == 0o600
    secret = file.read_text().strip()
    assert re.fullmatch(r"operator:[A-Za-z0-9_-]{43}", secret)
    assert stack["prefect"].environment["PREFECT_SERVER_API_AUTH_STRING"] == secret
    for name in ("api", "coordinator"):
        assert stack[name].environment["PREFECT_API_AUTH_STRING"] == secret
    assert stack["coordinator"].health_auth == ("operator", secret.partition(":")[2])
    again = services(settings, DATABASES, hospitals={})
    assert again[0].environment["PREFECT_SERVER_API_AUTH_STRING"] == secret
    for name in ("mlflow", "hospitals"):
        assert "PREFECT_API_AUTH_STRING" in stack[name].withheld
        assert "FEDMED_DATABASE_URL" in stack[name].withheld
    assert "PREFECT_API_AUTH_STRING" not in stack["mlflow"].environment


def test_no_secret_is_an_argument_or_shown(
    stack: dict[str, Service], settings: StackSettings
) -> None:
    secret = (settings.secrets / "prefect-auth").read_text().strip()
    for service in stack.values():
        assert not any("u:p@db" in part or secret in part for part in service.command)
        assert "u:p@db" not in repr(service)
        assert secret not in repr(service)
    assert "u:p@db" not in repr(DATABASES)


def test_a_prefect_server_of_others_is_used_and_not_started(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.org/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:given")
    given = StackSettings()
    stack = {s.name: s for s in services(given, DATABASES, hospitals={})}
    assert "prefect" not in stack
    assert "FEDMED_PREFECT_PORT" not in given.listens
    assert stack["api"].environment["PREFECT_API_URL"] == "https://prefect.example.org/api"
    assert stack["api"].environment["PREFECT_API_AUTH_STRING"] == "admin:given"
    assert str(stack["coordinator"].health_url).startswith("https://prefect.example.org/api/")
    assert not (settings.secrets / "prefect-auth").exists()
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    open_server = services(StackSettings(), DATABASES, hospitals={})
    assert all("PREFECT_API_AUTH_STRING" not in s.environment for s in open_server)


def test_a_hospital_elsewhere_makes_no_secret_of_the_coordinator_s(
    settings: StackSettings, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    assert hospital_prefect(settings.api_url, Trust(ca_file=ca)) == {
        "PREFECT_API_URL": f"{settings.api_url}/prefect/api",
        "PREFECT_API_SSL_CERT_FILE": str(ca),
    }
    assert not settings.secrets.exists()


def test_no_server_calls_home(stack: dict[str, Service]) -> None:
    for service in stack.values():
        assert service.environment["DO_NOT_TRACK"] == "1"
        assert service.environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
        assert service.environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
        assert service.environment["FLWR_TELEMETRY_ENABLED"] == "0"


def test_each_server_has_its_own_database(stack: dict[str, Service]) -> None:
    prefect = stack["prefect"].environment
    assert prefect["PREFECT_API_DATABASE_CONNECTION_URL"] == DATABASES.prefect
    assert stack["mlflow"].environment["MLFLOW_BACKEND_STORE_URI"] == DATABASES.mlflow
    assert "MLFLOW_TRACKING_URI" not in stack["mlflow"].environment
    assert stack["api"].environment["FEDMED_DATABASE_URL"] == DATABASES.fedmed


def test_all_that_is_written_lies_below_the_state_directory(
    stack: dict[str, Service], settings: StackSettings
) -> None:
    environment = stack["api"].environment
    for name in ("FEDMED_HOME", "PREFECT_HOME", "TMPDIR", "FEDMED_SECRETS"):
        assert Path(environment[name]).is_relative_to(settings.home)
    assert environment["FEDMED_ARTIFACTS"].startswith(settings.home.as_uri())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40ss@db.example.org:5433/fedmed?sslmode=require",
        "postgresql+psycopg2://u:p%40ss@db.example.org:5433/fedmed?sslmode=require",
    ],
)
def test_a_configured_server_holds_all_three_databases(url: str) -> None:
    databases = external_databases(url)
    rest = "u:p%40ss@db.example.org:5433"
    assert databases.fedmed == f"postgresql+psycopg2://{rest}/fedmed?sslmode=require"
    assert databases.mlflow == f"postgresql+psycopg2://{rest}/mlflow?sslmode=require"
    assert databases.prefect.startswith(f"postgresql+asyncpg://{rest}/prefect")


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"".join(b"%d\n" % i for i in range(50)) + b"\xff\n")
    assert tail(log, 2) == "49\n\N{REPLACEMENT CHARACTER}\n"
