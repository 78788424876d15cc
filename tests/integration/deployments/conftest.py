from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from deployments.settings import LOOPBACK, StackSettings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackSettings:
    """A stack below a folder of the test on free ports, with nothing else of this environment."""
    for name in [name for name in os.environ if name.startswith(("FEDMED_", "PREFECT_", "MLFLOW"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FEDMED_HOME", str(tmp_path / "home"))
    probes = [socket.socket() for _ in range(3)]
    for probe, name in zip(probes, ("PREFECT", "MLFLOW", "API"), strict=True):
        probe.bind((LOOPBACK, 0))
        monkeypatch.setenv(f"FEDMED_{name}_PORT", str(probe.getsockname()[1]))
    for probe in probes:
        probe.close()
    monkeypatch.chdir(tmp_path)  # no .env of a checkout
    return StackSettings()
