"""The supervisor: starts the stack's servers, watches them, and ends them in order.

``python -m deployments.stack.supervisor [--lifeline] [HOSPITAL=DATA …]`` is started by
``fedmed up`` and ``fedmed demo``. It reports as JSON lines on its standard output until the stack
is ready. With ``--lifeline`` it ends when its standard input closes, so that a killed
``fedmed demo`` leaves nothing behind; without, it lives until it gets SIGTERM from ``fedmed down``.
A server that ends by itself ends the stack, with its name and the end of its log.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final

import psutil

from api.auth.secret_files import SecretExposed
from api.certificates import CertificateUnusable
from api.serving import ServingUnsafe
from db.embedded import EmbeddedServer, start_embedded
from db.migrate import upgrade
from deployments.confine import allowed_environment
from deployments.errors import OperatorError, ServiceFailed
from deployments.operator import OperatorClient
from deployments.settings import StackSettings
from deployments.stack.databases import Databases, embedded_databases, external_databases
from deployments.stack.health import health_client, is_healthy
from deployments.stack.ports import require_free
from deployments.stack.preflight import check_serving
from deployments.stack.services import Service, services
from deployments.stack.state import ServiceState, StackLock, StackState, clear_state, write_state
from deployments.warm import die_with_parent

_HEALTH_POLL_S: Final = 0.1
_HEALTH_DEADLINE_S: Final = 180.0
_STOP_GRACE_S: Final = 8.0
# What the person who starts the stack can mend; the text says how.
_MENDABLE: Final = (OperatorError, SecretExposed, ServingUnsafe, CertificateUnusable)


class Stopped(Exception):
    """Someone asked the supervisor to stop."""


class Supervisor:
    """Owns the processes of one stack."""

    def __init__(self, settings: StackSettings, *, hospitals: Mapping[str, Path]) -> None:
        self._settings = settings
        self._hospitals = hospitals
        self._postgres: EmbeddedServer | None = None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._healthy: dict[str, float] = {}
        self._started = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._stop_read, self._stop_write = os.pipe()
        self._selector.register(self._stop_read, selectors.EVENT_READ)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler: the main loop sees it at its next wait."""
        os.write(self._stop_write, b"x")

    def watch_lifeline(self) -> None:
        """Stops when standard input closes: its other end is the process that started us."""
        self._selector.register(sys.stdin.buffer.fileno(), selectors.EVENT_READ)

    def run(self) -> None:
        """Starts everything, reports readiness, and waits until something ends it.

        Raises:
            ServiceFailed: a server ended by itself or did not become healthy.
        """
        try:
            self._write_state("starting")
            self._prepare_directories()
            databases = self._databases()
            stack = services(self._settings, databases, hospitals=self._hospitals)
            for service in stack:
                self._start(service)
            self._write_state("starting")
            self._await_health([service for service in stack if service.health_url])
            self._add_hospitals()
            self._write_state("ready")
            report("ready", seconds=round(self._elapsed(), 2))
            while True:
                self._wait(1.0)
        except Stopped:
            report("stopping")
        finally:
            self._write_state("stopping")
            self._stop_all()

    def _prepare_directories(self) -> None:
        self._settings.logs.mkdir(parents=True, exist_ok=True)
        # What an earlier stack left there, killed in the middle, nobody will use.
        shutil.rmtree(self._settings.temporary, ignore_errors=True)
        self._settings.temporary.mkdir()

    def _databases(self) -> Databases:
        """Starts PostgreSQL unless a server is configured, and migrates the project's database."""
        if self._settings.database_url is not None:
            databases = external_databases(self._settings.database_url.get_secret_value())
        else:
            self._postgres = start_embedded(self._settings.home / "postgres")
            databases = embedded_databases(self._postgres)
        upgrade(databases.fedmed)
        report("healthy", service="postgres", seconds=round(self._elapsed(), 2))
        return databases

    def _add_hospitals(self) -> None:
        """Adds the hospitals of this machine at the API; their process waits for that."""
        if not self._hospitals:
            return
        with OperatorClient.connect(self._settings) as operator:
            for hospital_id, data_path in self._hospitals.items():
                operator.add_hospital(self._settings.site(hospital_id, data_path))

    def _start(self, service: Service) -> None:
        inherited = allowed_environment(os.environ) if service.clean else os.environ
        own = {key: value for key, value in inherited.items() if key not in service.withheld}
        with self._log(service.name).open("ab") as log:
            self._processes[service.name] = subprocess.Popen(  # noqa: S603 - our own argument vector
                service.command,
                env={**own, **service.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_ends_with(os.getpid()),  # safe: this process has a single thread
            )

    def _await_health(self, waiting: list[Service]) -> None:
        deadline = time.monotonic() + _HEALTH_DEADLINE_S
        with health_client(self._settings) as client:
            while waiting:
                if time.monotonic() > deadline:
                    names = ", ".join(service.name for service in waiting)
                    raise ServiceFailed(
                        f"{names} not healthy after {_HEALTH_DEADLINE_S:.0f} s; "
                        f"see {self._settings.logs}"
                    )
                for service in [*waiting]:
                    if is_healthy(client, service):
                        waiting.remove(service)
                        self._healthy[service.name] = round(self._elapsed(), 2)
                        report("healthy", service=service.name, seconds=self._elapsed())
                self._wait(_HEALTH_POLL_S)

    def _wait(self, timeout_s: float) -> None:
        """Waits for a stop request; notices servers that ended.

        Raises:
            Stopped: asked to stop, or the lifeline closed.
            ServiceFailed: a server has ended.
        """
        if self._selector.select(timeout_s):
            raise Stopped
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise ServiceFailed(
                    f"{name} ended with exit code {process.returncode}; "
                    f"the end of {self._log(name)}:\n{tail(self._log(name))}"
                )

    def _stop_all(self) -> None:
        """Ends the servers, the clients of others first, then PostgreSQL."""
        family = [
            child
            for process in self._processes.values()
            if process.poll() is None
            for child in psutil.Process(process.pid).children(recursive=True)
        ]
        for name in reversed(self._processes):
            self._processes[name].terminate()
        deadline = time.monotonic() + _STOP_GRACE_S
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # A server that was killed, or that forgets its own children, leaves none behind either.
        for child in family:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        if self._postgres is not None:
            self._postgres.stop()
        clear_state(self._settings.home)

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _log(self, name: str) -> Path:
        return self._settings.logs / f"{name}.log"

    def _write_state(self, state: str) -> None:
        settings = self._settings
        write_state(
            settings.home,
            StackState.model_validate(
                {
                    "state": state,
                    "pid": os.getpid(),
                    "services": {
                        name: ServiceState(pid=process.pid, healthy_after_s=self._healthy.get(name))
                        for name, process in self._processes.items()
                    },
                    "stack_start_s": round(self._elapsed(), 2) if state == "ready" else None,
                    "postgres_pid": self._postgres.pid if self._postgres else None,
                    "prefect_ui": settings.prefect_ui,
                    "mlflow_ui": settings.mlflow_url,
                    "api_docs": settings.api_docs,
                    "api_url": settings.api_url,
                    "prefect_api_url": settings.prefect_api_url,
                    "hospitals": tuple(self._hospitals),
                }
            ),
        )


def _ends_with(supervisor: int) -> Callable[[], None]:
    def prepare() -> None:
        die_with_parent(supervisor, signal.SIGTERM)

    return prepare


def report(event: str, **fields: object) -> None:
    """Writes one JSON line for the process that started the supervisor, if it still listens."""
    try:
        print(json.dumps({"event": event, **fields}), flush=True)
    except BrokenPipeError:
        # `fedmed up` has gone after the stack became ready, as it should.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tail(log: Path, lines: int = 12) -> str:
    """Returns the last lines of a log."""
    with log.open(errors="replace") as file:
        return "".join(deque(file, maxlen=lines))


def main(arguments: list[str]) -> int:
    """Runs the supervisor; returns its exit code."""
    lifeline = "--lifeline" in arguments
    pairs = [argument for argument in arguments if argument != "--lifeline"]
    hospitals = {name: Path(path) for name, path in (pair.split("=", 1) for pair in pairs)}
    settings = StackSettings()
    try:
        for warning in check_serving(settings):
            report("warning", text=warning)
        with StackLock(settings.home):
            require_free(settings.listens)
            supervisor = Supervisor(settings, hospitals=hospitals)
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(signum, supervisor.request_stop)
            if lifeline:
                supervisor.watch_lifeline()
            supervisor.run()
    except _MENDABLE as error:
        report("failed", reason=str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
