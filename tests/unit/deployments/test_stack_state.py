"""Ports, the lock and the state file of a stack."""

import socket

import pytest

from deployments.errors import PortTaken, StackRunning
from deployments.settings import LOOPBACK, StackSettings
from deployments.stack.ports import require_free
from deployments.stack.state import StackLock, StackState, clear_state, read_state, write_state


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_one_line_that_names_it(taken_port):
    with pytest.raises(PortTaken) as caught:
        require_free({"FEDMED_PREFECT_PORT": (LOOPBACK, taken_port)})
    assert (
        str(caught.value) == f"port {taken_port} is taken; set FEDMED_PREFECT_PORT to a free port"
    )


def test_two_settings_with_one_port_are_refused():
    with pytest.raises(PortTaken, match="FEDMED_MLFLOW_PORT"):
        require_free(
            {"FEDMED_PREFECT_PORT": (LOOPBACK, 1029), "FEDMED_MLFLOW_PORT": (LOOPBACK, 1029)}
        )


def test_only_one_supervisor_owns_a_state_directory(tmp_path):
    with (
        StackLock(tmp_path),
        pytest.raises(StackRunning, match="fedmed down"),
        StackLock(tmp_path, patience_s=0.05),
    ):
        pass
    with StackLock(tmp_path):
        pass


def a_state() -> StackState:
    settings = StackSettings()
    return StackState(
        state="ready",
        pid=1,
        prefect_ui=settings.prefect_ui,
        mlflow_ui=settings.mlflow_url,
        api_docs=settings.api_docs,
        api_url=settings.api_url,
        prefect_api_url=settings.prefect_api_url,
    )


def test_the_state_is_read_while_the_lock_is_held_and_never_after(tmp_path):
    assert read_state(tmp_path) is None
    with StackLock(tmp_path):
        assert read_state(tmp_path) is None
        write_state(tmp_path, a_state())
        assert read_state(tmp_path) == a_state()
    assert read_state(tmp_path) is None  # left behind by a supervisor that was killed
    clear_state(tmp_path)


def test_settings_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDMED_HOME", str(tmp_path))
    monkeypatch.setenv("FEDMED_API_PORT", "18000")
    settings = StackSettings()
    assert settings.home == tmp_path
    assert settings.api_docs == "http://127.0.0.1:18000/docs"
    assert settings.artifacts_url == f"file://{tmp_path}/artifacts"
