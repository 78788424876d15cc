"""The policy at a round: the hospital's own file, read anew each time, and its refusals."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from db.site_store import SiteStore
from fl.architecture_spec import Custom
from fl.invitation import RoundInvitation
from tasks.hospital.policy import check_policy, policy_file, read_policy
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site
from tasks.hospital.stop import is_stopped, resume, stop, stop_flag

Invite = Callable[..., RoundInvitation]

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def write(site: Site) -> Callable[..., Path]:
    """Changes the hospital's policy, as its people would in an editor; None drops a field."""
    path = policy_file(site.settings)

    def change(**changes: str | None) -> Path:
        fields = dict(line.split(": ", 1) for line in path.read_text().splitlines())
        fields |= {name: value for name, value in changes.items() if value is not None}
        kept = {name: value for name, value in fields.items() if changes.get(name, "") is not None}
        path.write_text("".join(f"{name}: {value}\n" for name, value in kept.items()))
        return path

    return change


def refusal_of(site: Site, invitation: RoundInvitation, *, now: datetime = NOW) -> Refusal:
    with pytest.raises(Refusal) as refused:
        check_policy(site, invitation, now=now)
    return refused.value


def test_a_policy_that_allows_everything_returns_itself(site: Site, invite: Invite) -> None:
    assert check_policy(site, invite(), now=NOW) == read_policy(site.settings)


def test_a_change_counts_at_once(site: Site, invite: Invite, write: Callable[..., Path]) -> None:
    write(epsilon_per_training="0.1")
    refusal = refusal_of(site, invite())
    assert refusal.code == "policy-epsilon"
    assert "it allows 0.1 for one training" in refusal.reason
    write(epsilon_per_training="20")
    check_policy(site, invite(), now=NOW)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"expires": "2026-01-01"}, "policy-expired"),
        ({"hours": "[sat 00:00-24:00]"}, "policy-hours"),
        ({"least_cohort": "4"}, "least-cohort"),
        ({"models": "[{name: sepsis, code_hash: any}]"}, "policy-model"),
        ({"models": "[{name: breast-cancer, code_hash: " + "a" * 64 + "}]"}, "policy-model"),
        ({"purposes": "[care]"}, "policy-purpose"),
        ({"approval": "ask"}, "awaiting-approval"),
        ({"models": None}, "awaiting-approval"),
        ({"purposes": None}, "awaiting-approval"),
        ({"epsilon_total": "1"}, "policy"),
        ({"delta": None}, "policy"),
        ({"unheard_of": "1"}, "policy"),
    ],
)
def test_each_rule_refuses_by_its_own_name(
    site: Site,
    invite: Invite,
    write: Callable[..., Path],
    changes: dict[str, str | None],
    code: str,
) -> None:
    write(timezone="UTC", **changes)
    assert refusal_of(site, invite()).code == code


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_no_policy(site: Site, invite: Invite, mode: int) -> None:
    policy_file(site.settings).chmod(mode)
    refusal = refusal_of(site, invite())
    assert refusal.code == "policy"
    assert refusal.reason == (
        f"the hospital's policy.yaml: others may write it (mode {mode:04o}); chmod 600 it"
    )


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o644])
def test_a_file_that_others_may_only_read_is_one(site: Site, invite: Invite, mode: int) -> None:
    policy_file(site.settings).chmod(mode)
    check_policy(site, invite(), now=NOW)


def test_a_file_of_another_user_is_no_policy(
    site: Site, invite: Invite, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy_file(site.settings).chmod(0o600)
    owner = policy_file(site.settings).stat().st_uid
    if owner == 0:
        os.chown(policy_file(site.settings), 65_534, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    assert "it belongs to another user" in refusal_of(site, invite()).reason


def test_no_file_no_text_and_no_end_are_no_policy(site: Site, invite: Invite) -> None:
    path = policy_file(site.settings)
    for content, said in [
        (b"\xff", "it is not UTF-8"),
        (b"#" * (1 << 20) + b"\n", "it is longer than 1048576 bytes"),
    ]:
        path.write_bytes(content)
        assert said in refusal_of(site, invite()).reason
    path.unlink()
    assert "there is none; `fedmed hospital start`" in refusal_of(site, invite()).reason
    path.mkdir()
    assert "it cannot be read (Is a directory)" in refusal_of(site, invite()).reason


@pytest.mark.parametrize(("setting", "policy", "least"), [(3, "5", 5), (5, "3", 5), (4, "4", 4)])
def test_the_larger_least_cohort_of_settings_and_policy_counts(
    site: Site, write: Callable[..., Path], setting: int, policy: str, least: int
) -> None:
    write(least_cohort=policy)
    settings = site.settings.model_copy(update={"least_cohort": setting})
    assert read_policy(settings).least_cohort == least


def test_a_clock_that_is_set_back_does_not_revive_an_expired_policy(
    site: Site, invite: Invite, write: Callable[..., Path]
) -> None:
    database = site.settings.hospital_home / "records" / "site.db"
    write(expires="2090-01-01", timezone="UTC")
    check_policy(site, invite(), now=NOW)
    SiteStore(database, clock=lambda: datetime(2090, 1, 2, tzinfo=UTC)).log("refused", {})
    SiteStore(database, clock=lambda: NOW).log("refused", {})
    assert refusal_of(site, invite()).code == "policy-expired"


def test_a_stopped_hospital_answers_nothing_until_it_is_resumed(site: Site, invite: Invite) -> None:
    assert stop(site, now=NOW)
    assert not stop(site, now=NOW)
    assert refusal_of(site, invite()).code == "stopped"
    assert resume(site)
    assert not resume(site)
    check_policy(site, invite(), now=NOW)
    assert [entry.event for entry in site.store.entries()] == ["stopped", "resumed"]


def test_a_flag_of_any_kind_stops_it(site: Site, tmp_path: Path) -> None:
    assert not is_stopped(site.settings)
    stop_flag(site.settings).symlink_to(tmp_path / "nowhere")
    assert is_stopped(site.settings)


def test_a_full_log_does_not_keep_a_hospital_from_stopping(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullStore:
        def log(self, *_: Any) -> None:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        stop(replace(site, store=FullStore()), now=NOW)  # type: ignore[arg-type]
    assert is_stopped(site.settings)
    with pytest.raises(OSError, match="no space"):
        resume(replace(site, store=FullStore()))  # type: ignore[arg-type]
    assert is_stopped(site.settings)


def test_data_is_not_looked_at_where_the_policy_refuses(
    site: Site, invite: Invite, write: Callable[..., Path]
) -> None:
    write(models="[{name: sepsis, code_hash: any}]")
    site.settings.data_path.unlink()
    assert refusal_of(site, invite()).code == "policy-model"


def test_an_architecture_that_is_not_installed_here_is_refused(site: Site, invite: Invite) -> None:
    invitation = invite()
    own = invitation.model.model_copy(
        update={"architecture": Custom(entry_point="nobody-has-installed-it")}
    )
    refusal = refusal_of(site, invitation.model_copy(update={"model": own}))
    assert refusal.code == "model"
    assert "architecture 'nobody-has-installed-it': not installed here" in refusal.reason
