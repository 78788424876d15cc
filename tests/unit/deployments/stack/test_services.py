"""What the stack runs: which process may see what."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.settings import StackSettings
from deployments.stack.databases import Databases, external_databases
from deployments.stack.services import Service, services
from deployments.stack.supervisor import tail

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
    for name in ("prefect", "mlflow", "api"):
        command = stack[name].command
        assert command[command.index("--host") + 1] == "127.0.0.1"


def test_no_server_calls_home(stack: dict[str, Service]) -> None:
    for service in stack.values():
        assert service.environment["DO_NOT_TRACK"] == "1"
        assert service.environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
        assert service.environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
        assert service.environment["FLWR_TELEMETRY_ENABLED"] == "0"


def test_each_server_has_its_own_database(stack: dict[str, Service]) -> None:
    prefect = stack["prefect"].environment
    assert prefect["PREFECT_API_DATABASE_CONNECTION_URL"] == DATABASES.prefect
    mlflow = stack["mlflow"].command
    assert mlflow[mlflow.index("--backend-store-uri") + 1] == DATABASES.mlflow
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
