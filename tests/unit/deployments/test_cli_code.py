"""`fedmed hospital code`: what may run here, what is installed, and approving it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from deployments import admission
from deployments.errors import OperatorError
from deployments.settings import StackSettings
from fl.names import HOSPITAL_FLOW
from tasks.hospital.allowed_flows import approve_code, read_allowed
from tasks.hospital.site import SiteSettings, credential_file

OLD, NEW = "a" * 64, "b" * 64
CODE = ("hospital", "code", "--hospital-id", "north")


@pytest.fixture
def site(settings: StackSettings, monkeypatch: pytest.MonkeyPatch) -> SiteSettings:
    found = settings.site("north", settings.home)
    credential_file(found).write_text('{"client_id": "north", "client_secret": "s3cret"}')
    monkeypatch.setattr(admission, "installed_flows", lambda: {HOSPITAL_FLOW: NEW})
    approve_code(found, {HOSPITAL_FLOW: OLD}, now=datetime(2026, 1, 2, tzinfo=UTC))
    return found


def test_it_shows_both_hashes_and_changes_nothing(fedmed: Any, site: SiteSettings) -> None:
    shown = fedmed(*CODE).output
    assert f"installed {NEW}" in shown
    assert f"approved  {OLD}" in shown
    assert "NOT APPROVED" in shown
    assert read_allowed(site).flows[HOSPITAL_FLOW].code == OLD


def test_an_approval_is_asked_for_and_recorded(fedmed: Any, site: SiteSettings) -> None:
    declined = fedmed(*CODE, "--approve", answer="n\n")
    assert isinstance(declined.exception, OperatorError)
    assert read_allowed(site).flows[HOSPITAL_FLOW].code == OLD
    assert fedmed(*CODE, "--approve", answer="y\n").exit_code == 0
    assert read_allowed(site).flows[HOSPITAL_FLOW].code == NEW
    assert "hospital-round: approved" in fedmed(*CODE).output


def test_a_mistyped_id_approves_nothing(fedmed: Any, site: SiteSettings) -> None:
    done = fedmed("hospital", "code", "--hospital-id", "nroth", "--approve", "--yes")
    assert isinstance(done.exception, OperatorError)
    assert "no credential" in str(done.exception)
