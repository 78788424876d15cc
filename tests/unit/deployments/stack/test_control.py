"""Starting and reading the stack from outside, with a small program as its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import psutil
import pytest

from deployments.errors import OperatorError, ServiceFailed, StackNotRunning
from deployments.settings import StackSettings
from deployments.stack import control
from deployments.stack.state import StackLock, StackState, is_running, write_state

READY = """
import json, sys
print(json.dumps({"event": "healthy", "service": "api", "seconds": 0.5}), flush=True)
print(json.dumps({"event": "ready", "seconds": 1.5}), flush=True)
sys.stdin.read()
"""


def a_state(settings: StackSettings, pid: int, **values: Any) -> StackState:
    return StackState(
        state="ready",
        pid=pid,
        prefect_ui=settings.prefect_ui,
        mlflow_ui=settings.mlflow_url,
        api_docs=settings.api_docs,
        api_url=settings.api_url,
        prefect_api_url=settings.prefect_api_url,
        **values,
    )


@pytest.fixture
def supervised_by(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], list[subprocess.Popen[str]]]]:
    """Puts a program in the supervisor's place."""
    started: list[subprocess.Popen[str]] = []

    def use(program: str) -> list[subprocess.Popen[str]]:
        def spawn(_: StackSettings, *, hospitals: Any, lifeline: bool) -> subprocess.Popen[str]:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-S", "-c", program],
                    stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            return started[-1]

        monkeypatch.setattr(control, "_spawn", spawn)
        return started

    with ExitStack() as ended:
        settings.home.mkdir(parents=True)
        ended.enter_context(StackLock(settings.home))
        write_state(settings.home, a_state(settings, os.getpid()))
        yield use
        for process in started:
            with process:
                process.kill()


def events_of(seen: list[str]) -> control.Progress:
    def progress(event: Mapping[str, Any]) -> None:
        seen.append(event["event"])

    return progress


def test_a_stack_lasts_as_long_as_its_block(
    settings: StackSettings, supervised_by: Callable[[str], Any]
) -> None:
    started = supervised_by(READY)
    seen: list[str] = []
    with control.attached(settings, hospitals={}, progress=events_of(seen)) as stack:
        assert (stack.start_s, stack.state.state) == (1.5, "ready")
        assert seen == ["healthy", "ready"]
        assert started[0].poll() is None
    assert started[0].poll() == 0


def test_a_stack_ends_with_an_error_of_its_block(
    settings: StackSettings, supervised_by: Callable[[str], Any]
) -> None:
    started = supervised_by(READY)
    with (
        pytest.raises(ZeroDivisionError),
        control.attached(settings, hospitals={}, progress=events_of([])),
    ):
        raise ZeroDivisionError
    assert started[0].poll() == 0


def test_a_server_that_ended_explains_the_error_that_followed_from_it(
    settings: StackSettings, supervised_by: Callable[[str], Any]
) -> None:
    supervised_by(READY + "print(json.dumps({'event': 'failed', 'reason': 'mlflow ended'}))")
    with (
        pytest.raises(ServiceFailed, match=r"^mlflow ended$"),
        control.attached(settings, hospitals={}, progress=events_of([])),
    ):
        raise OperatorError("the API does not answer")


def test_without_an_explanation_the_error_stays_as_it_was(
    settings: StackSettings, supervised_by: Callable[[str], Any]
) -> None:
    supervised_by(READY)
    with (
        pytest.raises(OperatorError, match="the API does not answer"),
        control.attached(settings, hospitals={}, progress=events_of([])),
    ):
        raise OperatorError("the API does not answer")


FAILED = "import json; print(json.dumps({'event': 'failed', 'reason': 'port 80 is taken'}))"


def test_a_stack_that_does_not_start_says_why(
    settings: StackSettings, supervised_by: Callable[[str], Any]
) -> None:
    supervised_by(FAILED)
    with pytest.raises(ServiceFailed, match=r"^port 80 is taken$"):
        control.detached(settings, hospitals={}, progress=events_of([]))
    with (
        pytest.raises(ServiceFailed, match=r"^port 80 is taken$"),
        control.attached(settings, hospitals={}, progress=events_of([])),
    ):
        pytest.fail("the block of a stack that does not run is not entered")


def test_a_supervisor_that_ends_without_a_word_is_told_of_with_its_log(
    settings: StackSettings, supervised_by: Callable[[str], Any]
) -> None:
    supervised_by("import sys; sys.exit(7)")
    with pytest.raises(ServiceFailed, match=r"exit code 7; see .*supervisor\.log"):
        control.detached(settings, hospitals={}, progress=events_of([]))


def test_stopping_waits_until_the_supervisor_has_let_go(settings: StackSettings) -> None:
    program = """
import signal, sys
from pathlib import Path
from deployments.stack.state import StackLock
with StackLock(Path(sys.argv[1])):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(flush=True)
    signal.pause()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(settings.home)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        write_state(settings.home, a_state(settings, process.pid))
        # Nobody takes its exit status in meanwhile, as when `fedmed demo` waits at its prompt.
        control.stop(settings)
        assert not is_running(settings.home)
    assert process.returncode == 0


def test_without_a_stack_there_is_nothing_to_stop(settings: StackSettings) -> None:
    with pytest.raises(StackNotRunning, match="`fedmed up` starts one"):
        control.stop(settings)


def test_memory_counts_the_supervisor_its_children_and_postgres(settings: StackSettings) -> None:
    alone = control.memory_mb(a_state(settings, os.getpid()))
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", "b = b'x' * 50_000_000; print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with_child = control.memory_mb(a_state(settings, os.getpid()))
        as_postgres = control.memory_mb(a_state(settings, process.pid, postgres_pid=process.pid))
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert with_child > alone + 45
    assert as_postgres > 90


def test_memory_of_a_stack_that_is_ending_is_that_of_who_is_left(settings: StackSettings) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    gone = a_state(settings, process.pid, postgres_pid=process.pid)
    assert control.memory_mb(gone) == pytest.approx(
        psutil.Process().memory_full_info().pss / 1e6, 0.2
    )
