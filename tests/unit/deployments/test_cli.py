"""What the commands hand on and print; their mistakes: integration/deployments/test_cli."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console
from typer.testing import CliRunner, Result

from deployments import cli, demo, hospital, operator
from deployments.errors import OperatorError, StackNotRunning
from deployments.settings import StackSettings
from deployments.stack import control
from deployments.stack.control import RunningStack
from deployments.stack.services import LEAN_CLIENT, NO_TELEMETRY, ONE_THREAD
from deployments.stack.state import ServiceState, StackState
from fl.spec import ModelSpec, TrainingRequest
from tasks.hospital.exchange import ExchangeRefused
from tasks.hospital.site import SiteIncomplete, SiteSettings, credential_file


@pytest.fixture
def fedmed(settings: StackSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    before = dict(os.environ)
    lines = Console(width=200)

    # As the command has them once it has begun again.
    for name, value in {**NO_TELEMETRY, **LEAN_CLIENT, **ONE_THREAD}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(cli, "_out", lines)
        return CliRunner().invoke(cli.app, arguments)

    yield run
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def state(settings: StackSettings) -> StackState:
    return StackState(
        state="ready",
        pid=os.getpid(),
        services={
            "api": ServiceState(pid=12, healthy_after_s=3.25),
            "hospitals": ServiceState(pid=13),
        },
        prefect_ui=settings.prefect_ui,
        mlflow_ui=settings.mlflow_url,
        api_docs=settings.api_docs,
        api_url=settings.api_url,
        prefect_api_url=settings.prefect_api_url,
    )


def test_up_shows_each_server_as_it_comes_and_the_addresses(
    fedmed: Any, settings: StackSettings, state: StackState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def detached(given: StackSettings, *, hospitals: Any, progress: Any) -> RunningStack:
        assert (given, hospitals) == (settings, {})
        progress({"event": "healthy", "service": "api", "seconds": 3.25})
        progress({"event": "ready", "seconds": 4.0})
        return RunningStack(state, 4.0, lambda: None)

    monkeypatch.setattr(control, "detached", detached)
    assert fedmed("up").stdout.splitlines() == [
        "api        healthy after 3.2 s",
        f"Prefect UI  {settings.prefect_ui}",
        f"MLflow UI   {settings.mlflow_url}",
        f"API docs    {settings.api_docs}",
        "ready after 4.0 s; `fedmed down` stops it",
    ]


def test_status_shows_processes_memory_and_addresses(
    fedmed: Any, settings: StackSettings, state: StackState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "require_running", lambda given: state)
    monkeypatch.setattr(control, "memory_mb", lambda given: 1234.6)
    shown = fedmed("status").stdout
    assert "memory 1235 MB" in shown
    assert settings.mlflow_url in shown
    rows = [line.split() for line in shown.splitlines() if "│ 1" in line]
    assert rows == [
        ["│", "api", "│", "12", "│", "3.2", "s", "│"],
        ["│", "hospitals", "│", "13", "│", "│"],
    ]


def test_down_stops_the_stack_of_this_directory(
    fedmed: Any, settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = []
    monkeypatch.setattr(control, "stop", stopped.append)
    assert fedmed("down").stdout == "stopped\n"
    assert stopped == [settings]


def test_demo_runs_with_its_options(fedmed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(demo, "run_demo", lambda settings, **how: asked.append(how))
    assert fedmed("demo").exit_code == 0
    assert fedmed("demo", "--rounds", "2", "--hospitals", "5", "--seed", "7").exit_code == 0
    assert [(a["rounds"], a["hospitals"], a["seed"]) for a in asked] == [(10, 3, 0), (2, 5, 7)]


class FakeOperator:
    """As much of the operator's client as is called."""

    def __init__(self) -> None:
        self.requests: list[TrainingRequest] = []
        self.added: list[SiteSettings] = []
        self.models: list[ModelSpec] = []

    def start_training(self, request: TrainingRequest) -> dict[str, Any]:
        self.requests.append(request)
        return {"training_id": "t-1"}

    def add_model(self, spec: ModelSpec) -> None:
        self.models.append(spec)

    def add_hospital(self, site: SiteSettings) -> None:
        self.added.append(site)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeOperator:
    fake = FakeOperator()

    @contextmanager
    def connect(settings: StackSettings) -> Iterator[FakeOperator]:
        yield fake

    monkeypatch.setattr(operator.OperatorClient, "connect", connect)
    return fake


def test_train_asks_for_the_environment_s_privacy_unless_told_otherwise(
    fedmed: Any, api: FakeOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[str] = []
    monkeypatch.setattr(
        demo, "follow", lambda client, training_id, *, console: followed.append(training_id)
    )
    monkeypatch.setenv("FEDMED_NOISE_MULTIPLIER", "1.5")
    monkeypatch.setenv("FEDMED_CLIP_NORM", "0.25")
    assert fedmed("train", "--model", "m", "--rounds", "4").exit_code == 0
    assert fedmed("train", "--model", "m", "--epsilon", "2").exit_code == 0
    assert followed == ["t-1", "t-1"]
    as_set, told = api.requests
    assert (as_set.rounds, as_set.privacy.noise_multiplier, as_set.privacy.epsilon) == (
        4,
        1.5,
        None,
    )
    assert (told.rounds, told.privacy.noise_multiplier, told.privacy.epsilon) == (10, None, 2.0)
    assert as_set.privacy.clip_norm == told.privacy.clip_norm == 0.25


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[SiteSettings]:
    hospitals: list[SiteSettings] = []
    monkeypatch.setattr(hospital, "run_hospital", hospitals.append)
    return hospitals


def test_a_hospital_elsewhere_is_run_and_not_added(
    fedmed: Any, api: FakeOperator, ran: list[SiteSettings], tmp_path: Path
) -> None:
    done = fedmed(
        *("hospital", "start", "--hospital-id", "north", "--data-path", str(tmp_path)),
        *("--api-url", "https://fedmed.example.org"),
    )
    assert done.exit_code == 0
    (site,) = ran
    assert (site.hospital_id, site.api_url) == ("north", "https://fedmed.example.org")
    assert site.data_path == tmp_path
    assert api.added == []


def test_a_hospital_on_the_operator_s_machine_is_added_first(
    fedmed: Any,
    api: FakeOperator,
    ran: list[SiteSettings],
    settings: StackSettings,
    tmp_path: Path,
) -> None:
    settings.secrets.mkdir(parents=True)
    (settings.secrets / "operator.json").write_text("{}")
    arguments = ("hospital", "start", "--hospital-id", "north", "--data-path", str(tmp_path))
    fedmed(*arguments)
    assert api.added == ran
    credential_file(ran[0]).write_text("{}")
    fedmed(*arguments)
    assert len(api.added) == 1
    assert len(ran) == 2


def test_a_hospital_begins_again_before_libraries_start_threads(
    fedmed: Any, ran: list[SiteSettings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Replaced(Exception):
        pass

    def execve(program: str, command: list[str], environment: dict[str, str]) -> None:
        assert (program, command[1:3]) == (sys.executable, ["-m", "deployments.cli"])
        assert environment["OMP_NUM_THREADS"] == "1"
        raise Replaced

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    done = fedmed("hospital", "start", "--hospital-id", "north", "--data-path", str(tmp_path))
    assert isinstance(done.exception, Replaced)
    assert ran == []


def test_a_model_is_registered_from_a_file(fedmed: Any, api: FakeOperator, tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(files("deployments").joinpath("models", "breast-cancer.yaml").read_text())
    done = fedmed("model", "add", str(file))
    assert done.exit_code == 0, done.exception
    assert [spec.name for spec in api.models] == ["breast-cancer"]


@pytest.mark.parametrize(
    ("content", "error"),
    [("a: [1", OperatorError), ("name: 3", ValidationError), ("- 1", ValidationError)],
)
def test_a_file_that_is_no_model_is_refused(
    fedmed: Any, api: FakeOperator, tmp_path: Path, content: str, error: type[Exception]
) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(content)
    assert isinstance(fedmed("model", "add", str(file)).exception, error)
    assert api.models == []


@pytest.mark.parametrize("error", [SiteIncomplete("no credential"), ExchangeRefused("other keys")])
def test_a_hospital_that_cannot_run_says_why(
    fedmed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def run(site: SiteSettings) -> None:
        raise error

    monkeypatch.setattr(hospital, "run_hospital", run)
    done = fedmed("hospital", "start", "--hospital-id", "north", "--data-path", str(tmp_path))
    assert isinstance(done.exception, OperatorError)
    assert str(done.exception) == str(error)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (StackNotRunning("no stack runs"), 2, "fedmed: no stack runs\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_main_turns_a_mistake_into_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: BaseException,
    code: int,
    said: str,
) -> None:
    def app(*, standalone_mode: bool) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    assert capsys.readouterr().err == said


def test_main_names_each_setting_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDMED_API_PORT", "0")
    monkeypatch.setenv("FEDMED_MLFLOW_PORT", "x")
    monkeypatch.setattr(cli, "app", StackSettings)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["mlflow_port", "api_port"]
