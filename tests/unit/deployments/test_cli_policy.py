"""`fedmed hospital policy`, `approvals`, `approve`, `revoke`, `stop`, `resume`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from deployments.errors import OperatorError
from deployments.policy_files import write_first_policy, write_unattended_policy
from deployments.settings import StackSettings
from fl.approval import ApprovalTerms
from privacy.plan import PrivacyPlan
from tasks.hospital.policy import policy_file
from tasks.hospital.site import Site, credential_file, open_site
from tasks.hospital.stop import is_stopped

NORTH: Final = ("--hospital-id", "north")
TRAINING: Final = UUID("6f1c1c1e-0000-4000-8000-000000000001")
NOW: Final = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
TERMS: Final = ApprovalTerms(
    hospital_id="north",
    training_id=TRAINING,
    model="breast-cancer",
    code_hash="c" * 64,
    purpose="care",
    plan=PrivacyPlan(
        clip_norm=0.5,
        noise_multiplier=1.0,
        sampling_rate=0.5,
        expected_batch_size=16,
        evaluation_noise_multiplier=4.0,
        steps_per_round=2,
        rounds=10,
        delta=1e-5,
    ),
    dataset="d" * 64,
)
SHOWN: Final = {
    "reason": "the policy names no models",
    "epsilon": 7.5,
    "model": {
        "architecture": {"kind": "mlp", "hidden": [4]},
        "contract": {"columns": [{"name": "radius"}], "label": {"name": "bad\x1b[2Jlabel"}},
    },
    "roster": {"east": "f5a5-fd42", "north": "0000-1111"},
}


@pytest.fixture
def site(settings: StackSettings, tmp_path: Path) -> Site:
    place = settings.site("north", tmp_path)
    credential_file(place).write_text('{"client_id": "north", "client_secret": "s"}')
    write_unattended_policy(place)
    return open_site(place)


@pytest.fixture
def asked(site: Site) -> UUID:
    site.approvals.ask(TRAINING, terms=TERMS.canonical(), shown=SHOWN, at=NOW)
    return TRAINING


def said(fedmed: Any, command: str, *arguments: str, answer: str = "") -> str:
    done = fedmed("hospital", command, *NORTH, *arguments, answer=answer)
    assert done.exit_code == 0, done.exception
    return str(done.output)


def mistake(fedmed: Any, command: str, *arguments: str, answer: str = "") -> str:
    done = fedmed("hospital", command, *NORTH, *arguments, answer=answer)
    assert isinstance(done.exception, OperatorError)
    assert "\n" not in str(done.exception)
    return str(done.exception)


def test_the_policy_in_force_is_shown(fedmed: Any, site: Site) -> None:
    shown = said(fedmed, "policy")
    assert str(policy_file(site.settings)) in shown
    for line in ("least_cohort          3", "approval              automatic", "models "):
        assert line in shown


def test_what_is_wrong_with_a_policy_is_one_line(fedmed: Any, site: Site) -> None:
    policy_file(site.settings).write_text("expires: soon\n")
    assert mistake(fedmed, "policy").startswith(f"{policy_file(site.settings)}: expires: Input")
    policy_file(site.settings).chmod(0o666)
    assert mistake(fedmed, "policy").endswith("others may write it (mode 0666); chmod 600 it")


def test_a_policy_that_asks_says_so(fedmed: Any, site: Site) -> None:
    policy_file(site.settings).unlink()
    write_first_policy(site.settings, today=NOW.date())
    shown = said(fedmed, "policy")
    assert shown.count("none but what a person approves") == 2


def test_a_person_sees_all_that_the_approval_is_bound_to(
    fedmed: Any, site: Site, asked: UUID
) -> None:
    shown = said(fedmed, "approvals")
    assert f"training {asked}  waits for an approval since 2026-01-02 03:04 UTC: the po" in shown
    for part in (
        *("care", "breast-cancer: hidden=[4] kind=mlp, 1 columns", "c" * 64, "d" * 64),
        *("7.500 for all 10 rounds", "noise_multiplier=1.0", "east f5a5-fd42"),
    ):
        assert part in shown
    assert "\x1b" not in shown


def test_nothing_that_waits_is_said_plainly(fedmed: Any, site: Site) -> None:
    assert said(fedmed, "approvals") == "no training has asked for an approval\n"


@pytest.mark.parametrize(("options", "answer"), [(("--yes",), ""), ((), "y\n")])
def test_a_training_is_approved_after_it_was_shown(
    fedmed: Any, site: Site, asked: UUID, options: tuple[str, ...], answer: str
) -> None:
    shown = said(fedmed, "approve", str(asked), *options, answer=answer)
    assert "c" * 64 in shown
    assert shown.endswith(f"approved {asked}; it counts from its next round on\n")
    decision = site.approvals.decision(asked)
    assert decision is not None
    assert decision.terms == TERMS.canonical()
    assert f"training {asked}  approved 2" in said(fedmed, "approvals")


def test_a_no_approves_nothing(fedmed: Any, site: Site, asked: UUID) -> None:
    assert mistake(fedmed, "approve", str(asked), answer="n\n") == "nothing is approved"
    assert site.approvals.decision(asked) is None


def test_a_training_that_has_not_asked_cannot_be_approved(fedmed: Any, site: Site) -> None:
    line = mistake(fedmed, "approve", str(TRAINING), "--yes")
    assert line.startswith(f"training {TRAINING} has not asked north for an approval; ")


def test_an_approval_of_another_key_is_shown_as_not_valid(
    fedmed: Any, site: Site, asked: UUID
) -> None:
    said(fedmed, "approve", str(asked), "--yes")
    (site.settings.hospital_home / "keys" / "signing.key").write_bytes(bytes(32))
    assert "NOT VALID: the approval of training" in said(fedmed, "approvals")


def test_a_training_is_taken_back(fedmed: Any, site: Site, asked: UUID) -> None:
    said(fedmed, "approve", str(asked), "--yes")
    assert said(fedmed, "revoke", str(asked)) == f"revoked {asked}\n"
    assert f"training {asked}  revoked 2" in said(fedmed, "approvals")
    unknown = str(UUID(int=7))
    assert said(fedmed, "revoke", unknown).endswith("it has never asked north for an approval\n")


def test_a_hospital_is_stopped_and_resumed_without_a_coordinator(fedmed: Any, site: Site) -> None:
    assert said(fedmed, "stop").startswith("north is stopped; ")
    assert is_stopped(site.settings)
    assert said(fedmed, "stop").startswith("north is stopped already; ")
    assert "the hospital is stopped" in said(fedmed, "policy")
    assert said(fedmed, "resume") == "north answers rounds again\n"
    assert not is_stopped(site.settings)
    assert mistake(fedmed, "resume") == "north is not stopped"


@pytest.mark.parametrize("command", ["policy", "approvals", "stop", "resume"])
def test_a_hospital_that_is_not_here_is_one_line(fedmed: Any, command: str) -> None:
    assert mistake(fedmed, command).startswith("no credential at ")
