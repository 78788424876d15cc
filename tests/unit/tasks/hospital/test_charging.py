"""What the rounds of a training do to the hospital's ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from fl.data import load_table
from fl.invitation import RoundInvitation
from fl.policy import Policy
from fl.table import Table
from privacy.mechanisms import evaluation_mechanism_of, mechanism_of
from tasks.hospital.charging import RoundBudget, fingerprint_of, split_name
from tasks.hospital.policy import read_policy
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site, open_ledger

Invite = Callable[..., RoundInvitation]


@pytest.fixture
def budget(site: Site, invite: Invite) -> Callable[..., RoundBudget]:
    def make(policy: Policy | None = None, at: Site = site, **changes: Any) -> RoundBudget:
        invitation = invite(**changes)
        table = load_table(site.settings.data_path, invitation.model.contract)
        return RoundBudget.of(at, invitation, table, policy or read_policy(at.settings))

    return make


def limited(site: Site, **changes: Any) -> Policy:
    return read_policy(site.settings).model_copy(update=changes)


def kinds(site: Site) -> list[str]:
    return [entry.kind for entry in site.ledger.entries()]


def test_the_whole_plan_is_reserved_once(site: Site, budget: Callable[..., RoundBudget]) -> None:
    for number in (1, 1, 2):
        budget(number=number).reserve()
    (entry,) = site.ledger.entries()
    assert entry.kind == "reservation"
    assert (entry.details["cohort"], entry.details["rounds"]) == ("all", 10)
    assert entry.details["split"] == split_name(site.split_key)
    assert site.split_key.hex() not in entry.line()


def test_a_training_round_charges_both_parts_and_an_evaluation_one(
    site: Site, budget: Callable[..., RoundBudget]
) -> None:
    training, closing = budget(number=1), budget(number=2, kind="evaluation")
    for attempt in (training, training, closing):
        attempt.reserve()
        attempt.charge()
    plan = training.invitation.plan
    assert [(c.number, c.part, c.mechanism) for c in site.ledger.accounts().charges] == [
        (1, "held-out", evaluation_mechanism_of(plan, evaluations=1)),
        (1, "training", mechanism_of(plan, rounds=1)),
        (2, "held-out", evaluation_mechanism_of(plan, evaluations=1)),
    ]


def test_the_closing_evaluation_frees_what_was_not_used(
    site: Site, budget: Callable[..., RoundBudget]
) -> None:
    first = budget()
    first.reserve()
    first.charge()
    first.close()
    training = first.invitation.training_id
    assert site.ledger.accounts().is_open(training)
    closing = budget(number=2, kind="evaluation")
    closing.reserve()
    closing.charge()
    closing.close()
    closing.close()
    assert not site.ledger.accounts().is_open(training)
    assert kinds(site) == ["reservation", "charge", "charge", "charge", "release"]


def test_a_hospital_that_comes_for_the_closing_evaluation_reserves_nothing(
    site: Site, budget: Callable[..., RoundBudget]
) -> None:
    poor = limited(site, epsilon_per_training=3.0)
    closing = budget(poor, kind="evaluation")
    closing.reserve()
    closing.charge()
    closing.close()
    assert kinds(site) == ["charge"]


def test_a_repeated_round_without_room_is_refused_before_it_is_trained(
    site: Site, budget: Callable[..., RoundBudget]
) -> None:
    tight = limited(site, epsilon_per_training=15.2)  # the plan costs 15.13
    for number in range(1, 11):
        attempt = budget(tight, number=number)
        attempt.reserve()
        attempt.charge()
    before = site.ledger.entries()
    with pytest.raises(Refusal, match="privacy-budget: this training would cost epsilon 1"):
        budget(tight, number=11).reserve()
    with pytest.raises(Refusal, match="privacy-budget"):
        budget(tight, number=11).charge()
    assert site.ledger.entries() == before


def test_a_second_training_is_refused_with_what_is_left(
    site: Site, budget: Callable[..., RoundBudget]
) -> None:
    tight = limited(site, epsilon_total=20.0)
    budget(tight).reserve()
    with pytest.raises(Refusal) as refused:
        budget(tight, training_id=uuid4()).reserve()
    assert refused.value.code == "privacy-budget"
    assert refused.value.reason.startswith("cohort 'all' has epsilon ")
    assert " of 20 left at delta 1e-05; this training would take it to 2" in refused.value.reason
    assert kinds(site) == ["reservation"]
    # Another cohort is a person's decision, and has an account of its own.
    women = tight.model_copy(update={"cohort": "women"})
    budget(women, training_id=uuid4()).reserve()
    assert site.ledger.accounts().cohorts == ("all", "women")


def test_more_rows_are_the_same_cohort(site: Site, budget: Callable[..., RoundBudget]) -> None:
    budget().reserve()
    with site.settings.data_path.open("a") as file:
        file.write("\n1,2,0")
    attempt = budget()
    attempt.charge()
    accounts = site.ledger.accounts()
    assert accounts.cohorts == ("all",)
    assert len(accounts.fingerprints("all")) == 2


def test_a_fingerprint_is_of_the_rows_and_their_order() -> None:
    features = np.array([[0.5, -0.0], [1, -1]], np.float32)
    labels = np.array([0, 1], np.float32)
    known = fingerprint_of(Table(features, labels))
    assert known == fingerprint_of(Table(np.asfortranarray(features + 0), labels - 0))
    others = {
        fingerprint_of(Table(features[::-1], labels[::-1])),
        fingerprint_of(Table(features, labels[::-1])),
        fingerprint_of(Table(features.reshape(1, 4), labels)),
        fingerprint_of(Table(features[:1], labels[:1])),
    }
    assert len(others | {known}) == 5


@pytest.mark.parametrize(
    ("code", "command"),
    [
        ("ledger-rolled-back", "repair"),
        ("ledger-broken", "verify"),
        ("ledger-unknown", "verify"),
    ],
)
def test_a_ledger_that_is_not_whole_refuses_with_the_command_that_helps(
    site: Site, budget: Callable[..., RoundBudget], code: str, command: str
) -> None:
    attempt = budget()
    attempt.reserve()
    witness = site.settings.hospital_home / "records" / "ledger-witness.jsonl"
    if code == "ledger-rolled-back":
        attempt.charge()
        witness.write_text("")
    elif code == "ledger-broken":
        witness.write_text("no entry\n")
    else:
        attempt.charge()
        other = {"evaluation_noise_multiplier": 50.0}
        plan = attempt.invitation.plan.model_copy(update=other)
        changed = attempt.invitation.model_copy(update={"plan": plan})
        attempt = replace(attempt, invitation=changed)
    with pytest.raises(Refusal) as refused:
        attempt.charge()
    assert refused.value.code == code
    assert f"`fedmed hospital ledger {command} --hospital-id north`" in refused.value.reason
    assert str(site.settings.hospital_home) not in refused.value.reason
    (logged,) = [entry for entry in site.store.entries() if entry.event == code]
    assert logged.details["detail"]


def test_the_witness_lies_where_the_site_says(
    site: Site, budget: Callable[..., RoundBudget], tmp_path: Path
) -> None:
    settings = site.settings.model_copy(update={"ledger_witness": tmp_path / "other-disk"})

    def elsewhere() -> Site:
        return replace(site, settings=settings, ledger=open_ledger(settings))

    budget(at=elsewhere()).reserve()
    assert (tmp_path / "other-disk" / "north-ledger-witness.jsonl").read_text().count("\n") == 1
    # Whoever moves the setting without the file has no witness any more: nothing goes on by itself.
    for number in (1, 2):
        budget(at=elsewhere(), number=number).charge()
    with pytest.raises(Refusal, match="ledger-rolled-back"):
        budget(number=3).reserve()
