"""Starting, stopping and reading the stack from another process.

with Stack.attached(settings, hospitals={}) as stack:    # ends with this process
    ...
Stack.detached(settings)                                  # lives until `stop`
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import tenacity

from db.embedded import running_embedded
from deployments.errors import OperatorError, ServiceFailed, StackNotRunning
from deployments.settings import StackSettings
from deployments.stack.state import StackState, is_running, read_state

_STOP_DEADLINE_S: Final = 30.0

Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A stack that is ready; ``wait`` returns when it has ended, as by ``fedmed down``."""

    state: StackState
    start_s: float
    wait: Callable[[], object]


@contextmanager
def attached(
    settings: StackSettings, *, hospitals: Mapping[str, Path], progress: Progress
) -> Iterator[RunningStack]:
    """Runs a stack that ends with the block, or with this process however that ends.

    Raises:
        ServiceFailed: a server did not start; its text names it and shows the end of its log.
    """
    with _spawn(settings, hospitals=hospitals, lifeline=True) as process:
        try:
            yield _await_ready(settings, process, progress)
        except OperatorError as error:
            # Often the symptom of a server that has ended, which the supervisor can name.
            _end(process, settings)
            raise _reported_failure(process) or error from None
        finally:
            _end(process, settings)


def detached(
    settings: StackSettings, *, hospitals: Mapping[str, Path], progress: Progress
) -> RunningStack:
    """Starts a stack that lives on when this process ends.

    Raises:
        ServiceFailed: as `attached`.
    """
    process = _spawn(settings, hospitals=hospitals, lifeline=False)
    return _await_ready(settings, process, progress)


def stop(settings: StackSettings) -> None:
    """Stops the running stack and waits until its processes have ended.

    Raises:
        StackNotRunning: there is none on this state directory.
        OperatorError: it has not ended after half a minute.
    """
    state = require_running(settings)
    os.kill(state.pid, signal.SIGTERM)
    # The supervisor lets go of the lock when all else has ended. Its process may stay in the table
    # for longer, until whoever started it takes notice.
    tenacity.Retrying(
        retry=tenacity.retry_if_result(bool),
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(_STOP_DEADLINE_S),
        retry_error_callback=_refuse_to_wait,
    )(is_running, settings.home)


def _refuse_to_wait(attempt: tenacity.RetryCallState) -> None:
    raise OperatorError(
        f"the stack has not ended after {attempt.seconds_since_start:.0f} s; `fedmed status` shows "
        "what is left of it"
    )


def require_running(settings: StackSettings) -> StackState:
    """Returns the running stack's state.

    Raises:
        StackNotRunning: there is none on this state directory.
    """
    state = read_state(settings.home)
    if state is None:
        raise StackNotRunning(f"no stack runs on {settings.home}; `fedmed up` starts one")
    return state


def memory_mb(state: StackState) -> float:
    """Returns the memory of the stack and of this process in MB: the sum of proportional set sizes.

    Proportional, because forked processes share pages, and counting those in each would report
    memory that no one uses.
    """
    total = int(psutil.Process().memory_full_info().pss)
    for process in _processes(state):
        try:
            total += int(process.memory_full_info().pss)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue  # it ended while we counted
        except psutil.AccessDenied:
            continue  # a hospital's run lets nobody but root look at its memory
    return total / 1e6


def _processes(state: StackState) -> Iterator[psutil.Process]:
    # PostgreSQL detaches from the process that starts it.
    for pid in (state.pid, state.postgres_pid):
        if pid is None:
            continue
        try:
            parent = psutil.Process(pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue  # the stack is ending
        yield from family


def _spawn(
    settings: StackSettings, *, hospitals: Mapping[str, Path], lifeline: bool
) -> subprocess.Popen[str]:
    settings.logs.mkdir(parents=True, exist_ok=True)
    with (settings.logs / "supervisor.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own argument vector
            [
                *(sys.executable, "-m", "deployments.stack.supervisor"),
                *(("--lifeline",) if lifeline else ()),
                *(f"{hospital_id}={path}" for hospital_id, path in hospitals.items()),
            ],
            env={**os.environ, "FEDMED_HOME": str(settings.home)},
            stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C reaches us; we end the stack in order
        )


def _end(process: subprocess.Popen[str], settings: StackSettings) -> None:
    """Closes the lifeline, as the end of this process would, and waits for the supervisor."""
    if process.stdin is not None:
        process.stdin.close()
    killed = process.wait(_STOP_DEADLINE_S) < 0
    # Its servers end with it, PostgreSQL alone is no child of it.
    if killed and (postgres := running_embedded(settings.home / "postgres")) is not None:
        postgres.stop()


def _reported_failure(process: subprocess.Popen[str]) -> ServiceFailed | None:
    """Returns the failure that an ended supervisor has reported."""
    events = [json.loads(line) for line in process.stdout or ()]
    return next((ServiceFailed(e["reason"]) for e in events if e["event"] == "failed"), None)


def _await_ready(
    settings: StackSettings, process: subprocess.Popen[str], progress: Progress
) -> RunningStack:
    assert process.stdout is not None  # noqa: S101 - it was opened as a pipe above
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "failed":
            raise ServiceFailed(event["reason"])
        progress(event)
        if event["event"] == "ready":
            return RunningStack(require_running(settings), float(event["seconds"]), process.wait)
    raise ServiceFailed(
        f"the supervisor ended with exit code {process.wait()}; "
        f"see {settings.logs / 'supervisor.log'}"
    )
