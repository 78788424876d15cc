"""What a hospital approved: flow names, each with the hash of the code that was there."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime

import pytest

from tasks.hospital.allowed_flows import (
    CodeNotApproved,
    allowed_flows_file,
    approve_code,
    read_allowed,
    record_first_code,
    require_approved,
)
from tasks.hospital.site import SiteSettings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OLD, NEW = "a" * 64, "b" * 64
FLOW = "hospital-round"


def test_the_code_of_a_first_start_is_recorded_once(settings: SiteSettings) -> None:
    path = record_first_code(settings, {FLOW: OLD}, now=NOW)
    assert path == allowed_flows_file(settings)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {
        "flows": {FLOW: {"code": OLD, "approved": "2026-01-02T03:04:05+00:00"}}
    }
    assert record_first_code(settings, {FLOW: NEW}, now=NOW) is None
    require_approved(settings, FLOW, OLD)


def test_other_code_than_the_approved_is_refused_with_both_hashes_and_the_command(
    settings: SiteSettings,
) -> None:
    approve_code(settings, {FLOW: OLD}, now=NOW)
    with pytest.raises(CodeNotApproved) as refused:
        require_approved(settings, FLOW, NEW)
    said = str(refused.value)
    assert OLD in said
    assert NEW in said
    assert "`fedmed hospital code --hospital-id north`" in said
    assert "--approve" in said


def test_an_approval_replaces_the_one_before_as_a_whole(settings: SiteSettings) -> None:
    approve_code(settings, {FLOW: OLD, "other": OLD}, now=NOW)
    path = approve_code(settings, {FLOW: NEW}, now=NOW)
    require_approved(settings, FLOW, NEW)
    assert set(read_allowed(settings).flows) == {FLOW}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_flow_that_is_not_listed_is_refused(settings: SiteSettings) -> None:
    approve_code(settings, {FLOW: OLD}, now=NOW)
    with pytest.raises(CodeNotApproved, match="flow 'other' is not allowed at this hospital"):
        require_approved(settings, "other", OLD)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is missing"),
        ("", "JSON"),
        ("{}", "flows: Field required"),
        ('{"flows": {"x": {"code": "any", "approved": "2026-01-01T00:00:00Z"}}}', "flows.x.code"),
        ('{"flows": {}, "any": true}', "any: Extra"),
    ],
)
def test_without_a_whole_list_nothing_runs(
    settings: SiteSettings, text: str | None, said: str
) -> None:
    settings.hospital_home.mkdir()
    if text is not None:
        allowed_flows_file(settings).write_text(text)
    with pytest.raises(CodeNotApproved, match=said):
        require_approved(settings, FLOW, OLD)
