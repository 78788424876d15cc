"""The policies that are written for a hospital: both can be read, and replace none."""

from __future__ import annotations

import stat
from datetime import date
from pathlib import Path

import pytest

from deployments.policy_files import write_first_policy, write_unattended_policy
from deployments.settings import StackSettings
from fl.policy import parse_policy
from tasks.hospital.policy import policy_file, read_policy
from tasks.hospital.site import SiteSettings


@pytest.fixture
def place(settings: StackSettings, tmp_path: Path) -> SiteSettings:
    return settings.site("north", tmp_path)


def test_a_hospital_s_first_policy_asks_a_person_for_each_training(place: SiteSettings) -> None:
    path = write_first_policy(place, today=date(2026, 1, 2))
    assert path == policy_file(place)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    policy = read_policy(place)
    assert (policy.approval, policy.models, policy.purposes) == ("ask", None, None)
    assert policy.noise == "local"
    assert policy.expires == date(2027, 1, 2)


def test_its_comments_are_fields_that_can_be_used(place: SiteSettings) -> None:
    path = write_first_policy(place, today=date(2026, 1, 2))
    assert path is not None
    used = path.read_text().replace("noise: local\n", "").replace("64 hexadecimal digits, or ", "")
    for line in ("noise", "most_colluding", "models", "  - name", "    code_hash", "purposes"):
        assert f"# {line}" in used
        used = used.replace(f"# {line}", line)
    for line in ("hours: ", "timezone: "):
        used = used.replace(f"# {line}", line)
    policy = parse_policy(used)
    assert policy.model_fields_set == set(type(policy).model_fields)


def test_the_local_stack_s_policy_asks_nobody(place: SiteSettings) -> None:
    write_unattended_policy(place)
    policy = read_policy(place)
    assert (policy.approval, policy.models, policy.purposes) == ("automatic", "any", "any")


def test_a_policy_that_is_there_stays(place: SiteSettings) -> None:
    path = write_unattended_policy(place)
    assert path is not None
    before = path.read_bytes()
    assert write_first_policy(place, today=date(2026, 1, 2)) is None
    assert write_unattended_policy(place) is None
    assert path.read_bytes() == before
