"""A hospital's own figures on disk: one record a training, the newest first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from db.site_evaluations import SiteEvaluations
from db.site_store import SiteStore

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_one_record_a_training_is_kept_the_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    SiteStore(path)
    evaluations = SiteEvaluations(path)
    assert evaluations.kept() == []
    for minutes, (training, report) in enumerate([(1, "a"), (2, "b"), (1, "c")]):
        at = NOW + timedelta(minutes=minutes)
        evaluations.keep(UUID(int=training), report=report, at=at)
    assert SiteEvaluations(path).kept() == ["c", "b"]
    assert path.stat().st_mode & 0o777 == 0o600
