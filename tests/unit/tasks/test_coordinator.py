"""The coordinator's resources, from its environment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.coordinator import Coordinator


def test_a_flow_opens_what_its_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEDMED_DATABASE_URL", "postgresql+psycopg2://u:p@db.example.org/fedmed")
    monkeypatch.setenv("FEDMED_ARTIFACTS", (tmp_path / "artifacts").as_uri())
    coordinator = Coordinator.from_environment()
    assert coordinator.engine.url.host == "db.example.org"
    digest = coordinator.blobs.put(b"weights")
    assert [p.name for p in (tmp_path / "artifacts").rglob("*") if p.is_file()] == [digest]
    assert abs(datetime.now(UTC) - coordinator.now()) < timedelta(minutes=1)
