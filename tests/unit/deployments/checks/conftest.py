from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from db.disk import write_new_file
from deployments.checks.report import Finding, Place
from deployments.policy_files import write_first_policy
from tasks.hospital.site import SiteSettings, open_site

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteSettings:
    """The site of north, whole, of a coordinator that nobody has started."""
    monkeypatch.delenv("FEDMED_PEERS", raising=False)
    settings = SiteSettings(
        hospital_id="north",
        hospital_home=tmp_path / "north",
        data_path=tmp_path / "table.csv",
        api_url="http://127.0.0.1:1",
    )
    keys = settings.hospital_home / "keys"
    keys.mkdir(mode=0o700, parents=True)
    credential = {"client_id": "north", "client_secret": "s3cret"}
    write_new_file(keys / "credential.json", json.dumps(credential).encode())
    open_site(settings)
    write_first_policy(settings, today=date(2026, 5, 1))
    return settings


@pytest.fixture
def place(settings: SiteSettings) -> Place:
    return Place(settings=settings, data_path=settings.data_path, now=lambda: NOW)


@pytest.fixture
def states() -> Callable[[Any], list[str]]:
    """The states of findings, in their order."""

    def of(findings: list[Finding]) -> list[str]:
        return [finding.state for finding in findings]

    return lambda findings: of(list(findings))
