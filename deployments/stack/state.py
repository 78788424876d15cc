"""What is known of a running stack: ``stack.json`` and the lock that its supervisor holds.

with StackLock(home):       # the supervisor, for as long as it lives
    write_state(home, state)
state = read_state(home)    # anyone; None when no stack runs
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import tenacity
from pydantic import BaseModel, ConfigDict

from deployments.errors import StackRunning


class ServiceState(BaseModel):
    """A server of the stack: its process and the seconds until it was healthy."""

    model_config = ConfigDict(frozen=True)

    pid: int
    healthy_after_s: float | None = None


class StackState(BaseModel):
    """A running stack."""

    model_config = ConfigDict(frozen=True)

    state: Literal["starting", "ready", "stopping"]
    pid: int
    services: dict[str, ServiceState] = {}
    stack_start_s: float | None = None
    postgres_pid: int | None = None
    prefect_ui: str
    mlflow_ui: str
    api_docs: str
    api_url: str
    prefect_api_url: str
    hospitals: tuple[str, ...] = ()


def _state_file(home: Path) -> Path:
    return home / "stack.json"


def _lock_file(home: Path) -> Path:
    return home / "stack.lock"


class StackLock:
    """Held by the supervisor; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, home: Path, *, patience_s: float = 0.3) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._home = home
        self._patience_s = patience_s
        self._descriptor = os.open(_lock_file(home), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        # A moment's patience, because `is_running` takes the lock for an instant to look.
        patience = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(BlockingIOError),
            stop=tenacity.stop_after_delay(self._patience_s),
            wait=tenacity.wait_fixed(0.02),
            reraise=True,
        )
        try:
            patience(fcntl.flock, self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise StackRunning(
                f"a stack already runs on {self._home}; `fedmed status` shows it, "
                "`fedmed down` stops it, FEDMED_HOME names another directory"
            ) from None
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)


def is_running(home: Path) -> bool:
    """Returns whether a supervisor holds the state directory's lock."""
    try:
        with StackLock(home, patience_s=0):
            return False
    except StackRunning:
        return True


def write_state(home: Path, state: StackState) -> None:
    """Replaces ``stack.json`` in one step, so that no reader sees half of it."""
    temporary = _state_file(home).with_suffix(".new")
    temporary.write_text(state.model_dump_json(indent=2))
    temporary.replace(_state_file(home))


def clear_state(home: Path) -> None:
    """Removes ``stack.json``."""
    _state_file(home).unlink(missing_ok=True)


def read_state(home: Path) -> StackState | None:
    """Returns the running stack's state, or None when no stack runs on this directory."""
    if not home.is_dir() or not is_running(home):
        return None
    try:
        return StackState.model_validate_json(_state_file(home).read_bytes())
    except FileNotFoundError:
        return None  # a supervisor that has only just taken the lock
