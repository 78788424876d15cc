"""The command line, as a person starts it: a mistake is one line, exit code 2, no traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.settings import LOOPBACK, StackSettings
from deployments.stack.state import StackLock

pytestmark = pytest.mark.integration


def fedmed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deployments.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def mistake(*arguments: str, **environment: str) -> str:
    """Makes a mistake; returns the one line that it gets."""
    done = fedmed(*arguments, **environment)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        yield str(listener.getsockname()[1])


@pytest.fixture
def unused_port() -> Iterator[str]:
    """A port that is taken but on which nobody listens: a connection is refused."""
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        yield str(holder.getsockname()[1])


def test_without_a_stack_it_is_said_what_starts_one(settings: StackSettings) -> None:
    assert mistake("down") == f"fedmed: no stack runs on {settings.home}; `fedmed up` starts one"
    assert not settings.home.exists()


def test_a_port_that_is_none_is_named(settings: StackSettings) -> None:
    line = mistake("up", FEDMED_API_PORT="eighty")
    assert line.startswith("fedmed: api_port: Input should be a valid integer")
    assert not settings.home.exists()


def test_dotenv_is_read_where_the_command_is_started_and_the_environment_goes_first(
    settings: StackSettings, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("FEDMED_API_PORT=0\nFEDMED_HOME=elsewhere\nFEDMED_EPSILON=\n")
    # The environment of the fixture names ports and the home; only what it does not name counts.
    without_port = {k: v for k, v in os.environ.items() if k != "FEDMED_API_PORT"}
    done = subprocess.run(
        [sys.executable, "-m", "deployments.cli", "status"],
        env=without_port,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("fedmed: api_port: Input should be greater than or equal to 1")
    assert mistake("status") == (
        f"fedmed: no stack runs on {settings.home}; `fedmed up` starts one"
    )


def test_a_taken_port_is_named_with_its_setting(settings: StackSettings, taken_port: str) -> None:
    line = mistake("up", FEDMED_MLFLOW_PORT=taken_port)
    assert line == f"fedmed: port {taken_port} is taken; set FEDMED_MLFLOW_PORT to a free port"


def test_a_second_stack_on_one_directory_is_refused(settings: StackSettings) -> None:
    with StackLock(settings.home):
        line = mistake("up")
    assert line.startswith(f"fedmed: a stack already runs on {settings.home}; `fedmed status`")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rounds", "0"), "rounds: Input should be greater than or equal to 1"),
        (("--epsilon", "nan"), "epsilon: Input should be a finite number"),
    ],
)
@pytest.mark.usefixtures("settings")
def test_a_value_that_no_training_can_have_is_named(arguments: tuple[str, str], said: str) -> None:
    assert mistake("train", "--model", "breast-cancer", *arguments) == f"fedmed: {said}"


def test_a_training_without_a_stack_says_what_makes_its_password(settings: StackSettings) -> None:
    line = mistake("train", "--model", "breast-cancer")
    assert line == (
        f"fedmed: no operator password at {settings.secrets / 'operator.json'}; "
        "`fedmed up` makes it at the first start"
    )


def test_a_hospital_s_id_of_wrong_form_is_named(settings: StackSettings, tmp_path: Path) -> None:
    line = mistake("hospital", "start", "--hospital-id", "../x", "--data-path", str(tmp_path))
    assert line.startswith("fedmed: hospital_id: String should match pattern")
    assert not settings.home.exists()


def test_a_hospital_without_a_credential_is_told_who_gives_it(
    settings: StackSettings, tmp_path: Path
) -> None:
    done = fedmed("hospital", "start", "--hospital-id", "north", "--data-path", str(tmp_path))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    credential = settings.home / "hospitals" / "north" / "keys" / "credential.json"
    assert line.startswith(f"fedmed: no credential at {credential}; ask the coordinator's operator")


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("peers",), {}, "fedmed: the coordinator at http://127.0.0.1:{port} does not answer"),
        (("accept", "west", "f5a5"), {}, "fedmed: the coordinator at http://127.0.0.1:{port} "),
        (("accept", "west"), {}, "fedmed: Missing argument 'FINGERPRINT'"),
        (("identity",), {"FEDMED_PEERS": "all"}, "fedmed: peers: Input should be 'accepted' or"),
        (
            ("identity",),
            {"FEDMED_LEAST_COHORT": "2"},
            "fedmed: least_cohort: Input should be greater than or equal to 3",
        ),
    ],
)
def test_a_mistake_about_peers_is_one_line(
    settings: StackSettings,
    unused_port: str,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    said: str,
) -> None:
    keys = settings.home / "hospitals" / "north" / "keys"
    keys.mkdir(parents=True)
    (keys / "credential.json").write_text('{"client_id": "north", "client_secret": "s3cret"}')
    command, *rest = arguments
    line = mistake(
        *("hospital", command, "--hospital-id", "north", *rest),
        **{"FEDMED_API_PORT": unused_port, **environment},
    )
    assert line.startswith(said.format(port=unused_port))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("demo", "--hospitals", "2"), "'--hospitals': 2 is not in the range"),
        (
            ("hospital", "start", "--hospital-id", "north", "--data-path", "/nowhere"),
            "Path '/nowhere' does not exist",
        ),
    ],
)
def test_an_option_that_cannot_be_is_named_in_one_line(
    settings: StackSettings, arguments: tuple[str, ...], said: str
) -> None:
    done = fedmed(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("fedmed: ")
    assert said in line
    assert not settings.home.exists()
