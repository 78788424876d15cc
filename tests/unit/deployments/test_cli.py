"""What the commands hand on and print; their mistakes: integration/deployments/test_cli."""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments import cli, demo
from deployments.errors import OperatorError, StackNotRunning
from deployments.settings import StackSettings
from deployments.stack import control
from deployments.stack.control import RunningStack
from deployments.stack.state import ServiceState, StackState


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
        progress({"event": "warning", "text": "it is not encrypted"})
        progress({"event": "ready", "seconds": 4.0})
        return RunningStack(state, 4.0, lambda: None)

    monkeypatch.setattr(control, "detached", detached)
    assert fedmed("up").stdout.splitlines() == [
        "api        healthy after 3.2 s",
        "warning: it is not encrypted",
        f"Prefect UI  {settings.prefect_ui}",
        f"            sign in with the line in {settings.secrets / 'prefect-auth'}",
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


def test_train_asks_for_the_environment_s_privacy_unless_told_otherwise(
    fedmed: Any, api: Any, monkeypatch: pytest.MonkeyPatch
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
    assert (told.rounds, told.privacy.noise_multiplier, told.privacy.epsilon) == (None, None, 2.0)
    assert as_set.privacy.clip_norm == told.privacy.clip_norm == 0.25


def test_a_model_is_registered_from_a_file(fedmed: Any, api: Any, tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(files("deployments").joinpath("models", "breast-cancer.yaml").read_text())
    done = fedmed("model", "add", str(file))
    assert done.exit_code == 0, done.exception
    assert [spec.name for spec in api.models] == ["breast-cancer"]


def test_a_public_test_set_goes_with_it(fedmed: Any, api: Any, tmp_path: Path) -> None:
    file, rows = tmp_path / "model.yaml", tmp_path / "rows.csv"
    file.write_text(files("deployments").joinpath("models", "breast-cancer.yaml").read_text())
    rows.write_bytes(b"")
    done = fedmed("model", "add", str(file), "--public-test", str(rows))
    assert done.exit_code == 0, done.exception
    digest = hashlib.sha256(b"").hexdigest()
    assert f"public test set {digest} of version 1" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("makes", "registered"),
    [("nn.Linear(2, 1)", True), ("nn.BatchNorm1d(2)", False), (None, True)],
)
def test_an_architecture_of_one_s_own_is_tried_where_it_is_installed(
    fedmed: Any,
    api: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    makes: str | None,
    registered: bool,
) -> None:
    if makes is not None:
        (tmp_path / "tried_model.py").write_text(
            "from pydantic import BaseModel\nfrom torch import nn\n"
            "class Tried:\n    class Arguments(BaseModel):\n        pass\n"
            f"    def build(self, contract, arguments):\n        return {makes}\n"
            "tried = Tried()\n"
        )
        about = tmp_path / "tried-1.dist-info"
        about.mkdir()
        (about / "entry_points.txt").write_text(
            "[fedmed.architectures]\ntried = tried_model:tried\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "tried_model", raising=False)
    file = tmp_path / "model.yaml"
    file.write_text(
        "name: own\narchitecture: {kind: custom, entry_point: tried}\n"
        "contract: {columns: [{name: a, minimum: 0, maximum: 1}, {name: b, minimum: 0, maximum: 1}]"
        ", label: {name: y}}\n"
    )
    done = fedmed("model", "add", str(file))
    assert bool(api.models) is registered
    assert ("not checked" in done.stdout) is (makes is None)
    if not registered:
        assert "BatchNorm1d) mixes the records" in str(done.exception)


@pytest.mark.parametrize(
    ("content", "error"),
    [("a: [1", OperatorError), ("name: 3", ValidationError), ("- 1", ValidationError)],
)
def test_a_file_that_is_no_model_is_refused(
    fedmed: Any, api: Any, tmp_path: Path, content: str, error: type[Exception]
) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(content)
    assert isinstance(fedmed("model", "add", str(file)).exception, error)
    assert api.models == []


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
    assert [line.split(": ")[1] for line in lines] == ["api_port", "mlflow_port"]
