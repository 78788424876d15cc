"""A person's approval: what it is bound to, and that nothing else passes for one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from db.site_approvals import Approval
from fl import code_hash
from fl.invitation import RoundInvitation
from privacy.secagg import Identity
from tasks.hospital.approvals import approve
from tasks.hospital.policy import check_policy, check_still_allowed, policy_file
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site

Invite = Callable[..., RoundInvitation]

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def asking(site: Site) -> Site:
    """A site whose policy asks a person for each training."""
    path = policy_file(site.settings)
    path.write_text(path.read_text().replace("automatic", "ask"))
    return site


def refusal_of(site: Site, invitation: RoundInvitation) -> Refusal:
    with pytest.raises(Refusal) as refused:
        check_policy(site, invitation, now=NOW)
    return refused.value


def asked_for(site: Site, invitation: RoundInvitation) -> Approval:
    assert refusal_of(site, invitation).code == "awaiting-approval"
    asked = site.approvals.asked(invitation.training_id)
    assert asked is not None
    return asked


def approved(site: Site, invitation: RoundInvitation) -> RoundInvitation:
    approve(site, asked_for(site, invitation), now=NOW)
    check_policy(site, invitation, now=NOW)
    return invitation


def test_a_training_that_waits_names_the_command_and_shows_a_person_everything(
    asking: Site, invite: Invite, peers: dict[str, Identity]
) -> None:
    invitation = invite(purpose="care")
    refusal = refusal_of(asking, invitation)
    assert refusal.reason == (
        f"`fedmed hospital approve --hospital-id north {invitation.training_id}` by this "
        "hospital's people: the policy asks a person for each training"
    )
    asked = asking.approvals.asked(invitation.training_id)
    assert asked is not None
    assert asked.shown["model"] == invitation.model.model_dump(mode="json")
    assert asked.shown["epsilon"] > 0
    assert asked.shown["roster"] == {
        **{name: identity.public.fingerprint() for name, identity in peers.items()},
        "north": asking.identity.public.fingerprint(),
    }
    assert asking.store.entries()[-1].event == "approval-asked"


def test_an_approval_holds_for_all_rounds_of_its_training_and_for_no_other(
    asking: Site, invite: Invite
) -> None:
    approved(asking, invite())
    check_policy(asking, invite(number=2, kind="evaluation"), now=NOW + timedelta(days=9))
    other = invite(training_id="00000000-0000-4000-8000-000000000009")
    assert refusal_of(asking, other).code == "awaiting-approval"


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"purpose": "insurance"}, "purpose"),
        ({"plan": {"rounds": 11}}, "privacy plan"),
        ({"plan": {"noise_multiplier": 0.9}}, "privacy plan"),
        ({"model": {"architecture": {"kind": "logistic"}}}, "model code"),
        ({"model": {"name": "sepsis"}}, "model"),
        ({"purpose": "insurance", "plan": {"clip_norm": 2.0}}, "purpose and privacy plan"),
    ],
)
def test_a_training_that_comes_again_otherwise_is_asked_about_again(
    asking: Site, invite: Invite, changes: dict[str, Any], differs: str
) -> None:
    first = approved(asking, invite())
    fields = {
        name: type(getattr(first, name)).model_validate(
            getattr(first, name).model_dump(mode="json") | value
        )
        if isinstance(value, dict)
        else value
        for name, value in changes.items()
    }
    again = first.model_copy(update=fields)
    refusal = refusal_of(asking, again)
    assert refusal.code == "awaiting-approval"
    assert refusal.reason.endswith(f": it was approved with another {differs}")
    check_policy(asking, first, now=NOW)  # the approval itself still holds
    approved(asking, again)
    assert refusal_of(asking, first).code == "awaiting-approval"


def test_other_data_are_asked_about_again(asking: Site, invite: Invite) -> None:
    first = approved(asking, invite())
    with asking.settings.data_path.open("a") as table:
        table.write("\n1,1,0")
    assert refusal_of(asking, first).reason.endswith("with another data")


def test_other_code_is_asked_about_again(
    asking: Site, invite: Invite, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = approved(asking, invite())
    monkeypatch.setattr(code_hash, "training_code_hash", lambda: "f" * 64)
    assert refusal_of(asking, first).reason.endswith("with another model code")


def test_a_revoked_training_is_refused_until_it_is_approved_again(
    asking: Site, invite: Invite
) -> None:
    invitation = approved(asking, invite())
    check_still_allowed(asking, invitation)
    asking.approvals.revoke(invitation.training_id, at=NOW)
    assert refusal_of(asking, invitation).code == "approval-revoked"
    with pytest.raises(Refusal, match="approval-revoked"):
        check_still_allowed(asking, invitation)
    asked = asking.approvals.asked(invitation.training_id)
    assert asked is not None
    approve(asking, asked, now=NOW)
    check_policy(asking, invitation, now=NOW)


def test_a_training_that_needs_nobody_can_be_taken_back_too(site: Site, invite: Invite) -> None:
    invitation = invite()
    check_policy(site, invitation, now=NOW)
    site.approvals.revoke(invitation.training_id, at=NOW)
    assert refusal_of(site, invitation).code == "approval-revoked"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE approvals SET terms = replace(terms, '\"rounds\":10', '\"rounds\":99') "
        "WHERE state = 'given'",
        "UPDATE approvals SET signature = zeroblob(64) WHERE state = 'given'",
        "UPDATE approvals SET signature = NULL WHERE state = 'given'",
        "UPDATE approvals SET terms = '{}' WHERE state = 'given'",
        "UPDATE approvals SET at = '2026-01-02T00:00:00.000000+00:00' WHERE state = 'given'",
    ],
)
def test_an_approval_that_was_changed_in_the_database_is_none(
    asking: Site, invite: Invite, statement: str
) -> None:
    invitation = approved(asking, invite())
    write(asking, statement)
    refusal = refusal_of(asking, invitation)
    assert refusal.code == "approval-signature"
    assert "revoke it and approve it again" in refusal.reason


def test_a_row_that_nobody_signed_is_no_approval(asking: Site, invite: Invite) -> None:
    invitation = invite()
    asked_for(asking, invitation)
    write(asking, "UPDATE approvals SET state = 'given'")
    assert refusal_of(asking, invitation).code == "approval-signature"


def test_a_signature_of_another_training_is_no_approval(asking: Site, invite: Invite) -> None:
    approved(asking, invite())
    other = invite(training_id="00000000-0000-4000-8000-000000000009")
    write(asking, "UPDATE approvals SET training_id = '00000000000040008000000000000009'")
    refusal = refusal_of(asking, other)
    assert refusal.code == "awaiting-approval"
    assert refusal.reason.endswith("with another training")


@pytest.mark.parametrize("wrong", ["training", "hospital"])
def test_a_record_of_something_else_is_not_signed(asking: Site, invite: Invite, wrong: str) -> None:
    from dataclasses import replace
    from uuid import uuid4

    asked = asked_for(asking, invite())
    if wrong == "training":
        asked = replace(asked, training_id=uuid4())
    else:
        asked = replace(asked, terms=asked.terms.replace('"north"', '"south"'))
    with pytest.raises(ValueError, match="holds another one's terms"):
        approve(asking, asked, now=NOW)
    assert asking.approvals.decision(asked.training_id) is None


@pytest.mark.parametrize("rule", ["no-such-file", "unreadable-file"])
def test_data_that_cannot_be_read_are_not_asked_about(
    asking: Site, invite: Invite, rule: str
) -> None:
    path = asking.settings.data_path
    path.unlink()
    if rule == "unreadable-file":
        path.symlink_to(path)
    refusal = refusal_of(asking, invite())
    assert (refusal.code, refusal.reason) == ("data-contract", rule)


def write(site: Site, statement: str) -> None:
    """Changes the database as someone who can write the file would."""
    connection = sqlite3.connect(site.settings.hospital_home / "records" / "site.db")
    connection.execute("DROP TRIGGER approvals_no_update")
    connection.execute(statement)
    connection.commit()
    connection.close()
