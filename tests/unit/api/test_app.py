from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from pydantic import SecretStr, ValidationError

from api.app import app_from_environment, ending_waits_at_signals, prefect_auth
from api.settings import ApiSettings


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("FEDMED_DATABASE_URL", "postgresql://me:secret@host/fedmed")
    monkeypatch.setenv("FEDMED_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("FEDMED_SECRETS", str(tmp_path / "secrets"))
    return monkeypatch


class FakeHub:
    ended = 0

    def end_waits_from_signal(self) -> None:
        self.ended += 1


@pytest.fixture
def server_handler() -> Iterator[list[int]]:
    """A handler as a server installs it."""
    heard: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, handle)
    yield heard
    signal.signal(signal.SIGTERM, before)


def test_a_signal_ends_the_waits_and_reaches_the_server(server_handler: list[int]) -> None:
    hub, own = FakeHub(), signal.getsignal(signal.SIGTERM)
    with ending_waits_at_signals(hub):
        signal.raise_signal(signal.SIGTERM)
        assert hub.ended == 1
        assert server_handler == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is own


def test_where_no_server_handles_signals_they_are_left_alone() -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with ending_waits_at_signals(FakeHub()):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_in_a_thread_signals_are_left_alone(server_handler: list[int]) -> None:
    own, seen = signal.getsignal(signal.SIGTERM), []

    def run() -> None:
        with ending_waits_at_signals(FakeHub()):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [own]


@pytest.mark.usefixtures("environment")
def test_is_made_from_the_environment_without_opening_anything(tmp_path: Path) -> None:
    app = app_from_environment()
    assert "/training/start" in app.openapi()["paths"]
    assert not (tmp_path / "secrets").exists()


def test_privacy_defaults_that_contradict_each_other(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FEDMED_EPSILON", "3")
    environment.setenv("FEDMED_NOISE_MULTIPLIER", "2")
    with pytest.raises(ValidationError, match="not both"):
        app_from_environment()


@pytest.mark.usefixtures("environment")
def test_signs_in_to_prefect_when_it_asks_for_it() -> None:
    settings = ApiSettings()
    assert prefect_auth(settings) is None
    guarded = settings.model_copy(update={"prefect_api_auth_string": SecretStr("admin:a:b")})
    auth = prefect_auth(guarded)
    assert auth is not None
    assert auth._auth_header == "Basic YWRtaW46YTpi"


def test_an_idle_api_has_no_training_code_in_memory() -> None:
    heavy = ("torch", "opacus", "flwr", "mlflow", "prefect", "numpy", "scipy", "pandas")
    code = f"import api.app, sys; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
