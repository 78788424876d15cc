"""The supervisor, small servers in place of the real ones: it starts, watches and ends them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.errors import ServiceFailed
from deployments.settings import LOOPBACK, StackSettings
from deployments.stack import supervisor
from deployments.stack.databases import Databases
from deployments.stack.services import Service
from deployments.stack.state import StackLock, StackState, read_state
from deployments.stack.supervisor import Supervisor, main

pytestmark = pytest.mark.integration

SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[2])); self.end_headers()
    def log_message(self, *_): pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
signal.pause()
"""
FAILING = "import sys; print('line one'); print('the last word'); sys.exit(3)"


def python(name: str, program: str, *arguments: object, health_url: str | None = None) -> Service:
    return Service(
        name=name,
        command=(sys.executable, "-S", "-c", program, *map(str, arguments)),
        environment={"FEDMED_MARK": name},
        health_url=health_url,
    )


def have_ended(*pids: int) -> bool:
    """Whether processes end, which after a SIGKILL takes the kernel a moment."""
    left = []
    for pid in pids:
        try:
            left.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(left, timeout=10)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def server(settings: StackSettings) -> Callable[..., Service]:
    def make(*, status: int = 200) -> Service:
        port = settings.api_port
        url = f"http://{LOOPBACK}:{port}/health"
        return python("api", SERVER, port, status, health_url=url)

    return make


@pytest.fixture
def run(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Runs a supervisor over some services and asks it to stop once it is ready."""
    events: list[dict[str, Any]] = []
    made: list[Supervisor] = []

    def runner(*services: Service) -> list[dict[str, Any]]:
        one = Supervisor(settings, hospitals={})
        made.append(one)

        def report(event: str, **fields: Any) -> None:
            events.append({"event": event, "state": read_state(settings.home), **fields})
            if event == "ready":
                one.request_stop(15, None)

        monkeypatch.setattr(supervisor, "services", lambda *_, **__: services)
        monkeypatch.setattr(supervisor, "report", report)
        monkeypatch.setattr(one, "_databases", lambda: Databases("f", "p", "m"))
        with StackLock(settings.home):
            one.run()
        return events

    yield runner
    for one in made:
        alive = [name for name, p in one._processes.items() if p.poll() is None]
        assert alive == []
        one._selector.close()


def test_a_healthy_stack_is_told_of_and_leaves_nothing_behind(
    run: Callable[..., list[dict[str, Any]]],
    server: Callable[..., Service],
    settings: StackSettings,
) -> None:
    events = run(server(), python("worker", "import signal; signal.pause()"))
    assert [event["event"] for event in events] == ["healthy", "ready", "stopping"]
    assert events[0]["service"] == "api"
    state = events[1]["state"]
    assert isinstance(state, StackState)
    assert state.state == "ready"
    assert set(state.services) == {"api", "worker"}
    assert state.services["api"].healthy_after_s is not None
    assert state.stack_start_s == pytest.approx(events[1]["seconds"], abs=0.5)
    assert have_ended(*(service.pid for service in state.services.values()))
    assert not (settings.home / "stack.json").exists()
    assert {log.name for log in settings.logs.iterdir()} == {"api.log", "worker.log"}


def test_a_server_that_ends_by_itself_ends_the_stack_with_its_last_words(
    run: Callable[..., list[dict[str, Any]]],
    server: Callable[..., Service],
    settings: StackSettings,
) -> None:
    with pytest.raises(ServiceFailed) as failed:
        run(server(status=503), python("worker", FAILING))
    text = str(failed.value)
    assert text.startswith(f"worker ended with exit code 3; the end of {settings.logs}/worker.log:")
    assert text.endswith("line one\nthe last word\n")
    assert not (settings.home / "stack.json").exists()


def test_a_server_that_does_not_become_healthy_is_named(
    run: Callable[..., list[dict[str, Any]]],
    server: Callable[..., Service],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "_HEALTH_DEADLINE_S", 0.5)
    with pytest.raises(ServiceFailed, match=r"^api not healthy after"):
        run(server(status=503))


def test_a_server_that_does_not_listen_to_reason_is_killed_with_its_children(
    run: Callable[..., list[dict[str, Any]]],
    server: Callable[..., Service],
    settings: StackSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "_STOP_GRACE_S", 0.3)
    # Ready only when the stubborn one has its child: its log is served by nobody else.
    ready = supervisor.is_healthy
    log = settings.logs / "stubborn.log"

    def healthy(client: Any, service: Service) -> bool:
        return ready(client, service) and bool(log.read_text().strip())

    monkeypatch.setattr(supervisor, "is_healthy", healthy)
    events = run(server(), python("stubborn", STUBBORN))
    parent = events[-1]["state"].services["stubborn"].pid
    child = int(log.read_text())
    assert have_ended(parent, child)


def test_what_goes_wrong_before_a_server_starts_is_one_event(
    settings: StackSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    with StackLock(settings.home):
        assert main([]) == 2
    (event,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert event["event"] == "failed"
    assert event["reason"].startswith(f"a stack already runs on {settings.home}")
    assert not (settings.home / "postgres").exists()


def test_two_services_on_one_port_are_refused_before_anything_starts(
    settings: StackSettings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEDMED_MLFLOW_PORT", str(settings.prefect_port))
    assert main(["--lifeline", "hospital-1=/data"]) == 2
    event = json.loads(capsys.readouterr().out)
    assert event["reason"].endswith("set FEDMED_MLFLOW_PORT to a free port")
    assert not (settings.home / "postgres").exists()


def test_what_must_not_be_served_starts_nothing(
    settings: StackSettings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDMED_API_HOST", "10.0.0.5")
    assert main([]) == 2
    (event,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert event["reason"].startswith("plain HTTP on 10.0.0.5")
    monkeypatch.setenv("FEDMED_ALLOW_PLAIN_HTTP", "true")
    monkeypatch.setenv("FEDMED_MLFLOW_PORT", str(settings.prefect_port))  # ends it a step later
    assert main([]) == 2
    warning, failed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert warning["event"] == "warning"
    assert "is not encrypted" in warning["text"]
    assert failed["reason"].startswith("port ")
    assert not (settings.home / "postgres").exists()


def test_a_server_does_not_get_what_is_withheld_from_it(
    run: Callable[..., list[dict[str, Any]]],
    server: Callable[..., Service],
    settings: StackSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEDMED_DATABASE_URL", "postgresql://u:p@db/fedmed")
    worker = python("worker", "import os, signal; print(sorted(os.environ)); signal.pause()")
    log = settings.logs / "worker.log"
    ready = supervisor.is_healthy

    def healthy(client: Any, service: Service) -> bool:
        return ready(client, service) and bool(log.read_text().strip())

    monkeypatch.setattr(supervisor, "is_healthy", healthy)
    withheld = ("FEDMED_DATABASE_URL",)
    run(server(), replace(worker, withheld=withheld, environment={"PYTHONUNBUFFERED": "1"}))
    assert "FEDMED_HOME" in log.read_text()
    assert "FEDMED_DATABASE_URL" not in log.read_text()


def test_what_an_earlier_stack_left_among_temporary_files_is_gone(
    run: Callable[..., list[dict[str, Any]]],
    server: Callable[..., Service],
    settings: StackSettings,
) -> None:
    old = settings.temporary / "prefect" / "old"
    old.parent.mkdir(parents=True)
    old.write_text("x")
    run(server())
    assert not old.exists()


def test_no_server_is_left_when_one_cannot_be_started(
    run: Callable[..., list[dict[str, Any]]], server: Callable[..., Service], tmp_path: Path
) -> None:
    missing = Service(name="missing", command=(str(tmp_path / "no-such-program"),))
    with pytest.raises(FileNotFoundError):
        run(server(), missing)
