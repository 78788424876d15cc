from __future__ import annotations

import os
from pathlib import Path

import pytest

from deployments.settings import StackSettings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackSettings:
    """A stack below a folder of the test, whatever this process's environment says."""
    for name in [name for name in os.environ if name.startswith("FEDMED_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FEDMED_HOME", str(tmp_path / "home"))
    return StackSettings()
