"""The command ``fedmed`` as its user knows it: what it prints, leaves behind and does not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from deployments.bench.held_out import exact_figures

pytestmark = pytest.mark.e2e

FEDMED: Final = str(Path(sys.executable).with_name("fedmed"))
DEMO: Final = (FEDMED, "demo", "--rounds", "1")
REPORT_FIELDS: Final = {
    *("rounds", "hospitals", "wall_s", "round_s", "round_median_s", "round_period_s"),
    *("stack_start_s", "peak_memory_mb", "auc", "accuracy", "epsilon", "delta"),
    *("mlflow_run_id", "model_name", "model_version", "addresses"),
}


def run(home: Any, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, away from the source tree and without a terminal."""
    return subprocess.run(
        command,
        env={**home.environment, **variables},
        cwd=home.path.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@contextmanager
def begun(home: Any, *command: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Starts a command in a process group of its own, as a shell does; its output is a file."""
    output = home.path.parent / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            env=home.environment,
            cwd=home.path.parent,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    try:
        yield process, output
    finally:
        process.kill()
        process.wait()


def test_a_taken_port_is_one_line_and_starts_nothing(home: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run(home, *DEMO, FEDMED_MLFLOW_PORT=str(port))
    assert done.returncode == 2
    assert done.stderr == f"fedmed: port {port} is taken; set FEDMED_MLFLOW_PORT to a free port\n"
    assert "healthy" not in done.stdout
    assert not (home.path / "postgres").exists()
    assert not home.processes()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("status",), "no stack runs on {home}; `fedmed up` starts one"),
        (("down",), "no stack runs on {home}; `fedmed up` starts one"),
        (
            ("train", "--model", "nope"),
            "no operator password at {home}/secrets/operator.json; "
            "`fedmed up` makes it at the first start",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_without_a_stack_a_command_is_one_line(
    home: Any, command: tuple[str, ...], says: str
) -> None:
    done = run(home, FEDMED, *command)
    assert done.returncode == 2
    assert done.stderr == f"fedmed: {says.format(home=home.path)}\n"
    assert done.stdout == ""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_a_demo_that_is_stopped_in_the_middle_leaves_no_process(
    home: Any, eventually: Callable[..., Any], how: signal.Signals
) -> None:
    with begun(home, *DEMO) as (process, output):
        eventually(lambda: _says(output, "api", "healthy") or process.poll(), deadline_s=90)
        assert process.poll() is None, output.read_text()
        names = [found.info["name"] for found in home.processes()]
        assert "postgres" in names
        assert len(names) > 10
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # Ctrl-C goes to all of the terminal's foreground
        else:
            process.send_signal(how)
        eventually(lambda: not home.processes(), deadline_s=15)
        assert process.wait(1) == (130 if how == signal.SIGINT else -signal.SIGKILL)
        assert "Traceback" not in output.read_text()


def _says(output: Path, *words: str) -> bool:
    lines = output.read_text().splitlines()
    return any(line.split()[: len(words)] == [*words] for line in lines)


# After the two above, on what they left.
def test_a_demo_runs_to_its_end(home: Any) -> None:
    version_after_a_demo(home)
    assert exact_figures(home.path).auc > 0.9  # what the report says is noised


@pytest.mark.long
def test_the_next_demo_goes_on_with_what_the_last_one_left(home: Any) -> None:
    first = version_after_a_demo(home)
    assert version_after_a_demo(home) == first + 1


def version_after_a_demo(home: Any) -> int:
    done = run(home, *DEMO)
    assert done.returncode == 0, done.stderr
    assert not home.processes()
    report = json.loads((home.path / "demo" / "report.json").read_text())
    check_report(report, home)
    assert f"model breast-cancer version {report['model_version']}" in done.stdout
    return int(report["model_version"])


def check_report(report: dict[str, Any], home: Any) -> None:
    assert report.keys() == REPORT_FIELDS
    assert report["model_name"] == "breast-cancer"
    assert (report["rounds"], report["hospitals"], len(report["round_s"])) == (1, 3, 1)
    assert report["round_s"] == [report["round_median_s"]]
    assert 0 < report["round_median_s"] <= report["round_period_s"] < report["wall_s"]
    assert 0 < report["stack_start_s"] < report["wall_s"]
    assert 500 < report["peak_memory_mb"] < 4000
    assert 0.5 < report["auc"] <= 1
    assert 0 < report["accuracy"] <= 1
    assert 0 < report["epsilon"] <= 8
    assert report["delta"] == 1e-5
    assert len(report["mlflow_run_id"]) == 32
    ports = {name: home.environment[f"FEDMED_{name.upper()}_PORT"] for name in report["addresses"]}
    assert report["addresses"] == {
        "prefect": f"http://127.0.0.1:{ports['prefect']}",
        "mlflow": f"http://127.0.0.1:{ports['mlflow']}",
        "api": f"http://127.0.0.1:{ports['api']}/docs",
    }
