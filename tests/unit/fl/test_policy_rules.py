"""Each rule of a policy: what it refuses, with the value, and what it lets through."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.errors import PolicyViolated
from fl.invitation import RosterEntry, RoundInvitation
from fl.opening_hours import parse_hours
from fl.policy import AllowedModel, Policy
from fl.policy_rules import check_bounds, needs_person, plan_epsilon
from fl.secure_round import quorum_of
from fl.spec import ModelSpec
from privacy.plan import PrivacyPlan

CODE: Final = "c" * 64
OTHER: Final = "d" * 64
NOW: Final = datetime(2026, 1, 5, 12, tzinfo=UTC)  # a Monday
POLICY: Final = Policy(
    expires=date(2026, 1, 5),
    epsilon_per_training=20.0,
    epsilon_total=100.0,
    delta=1e-5,
    models="any",
    purposes="any",
    timezone="UTC",
    approval="automatic",
)
SPEC: Final = ModelSpec.model_validate(
    {
        "name": "breast-cancer",
        "architecture": {"kind": "logistic"},
        "contract": {
            "columns": [{"name": "radius", "minimum": 0, "maximum": 30}],
            "label": {"name": "malignant"},
        },
    }
)
PLAN: Final = PrivacyPlan(
    clip_norm=0.5,
    noise_multiplier=4.0,
    sampling_rate=1.0,
    expected_batch_size=16,
    evaluation_noise_multiplier=4.0,
    steps_per_round=1,
    rounds=2,
    delta=1e-4,
)


def policy(**changes: Any) -> Policy:
    return POLICY.model_copy(update=changes)


def invitation(*, hospitals: int = 3, plan: PrivacyPlan = PLAN, **changes: Any) -> RoundInvitation:
    roster = tuple(
        RosterEntry(hospital_id=f"h-{i}", index=i, signing_key=f"{i:064x}", sealing_key=f"{i:064x}")
        for i in range(1, hospitals + 1)
    )
    values: dict[str, Any] = {
        "round_id": UUID(int=1),
        "training_id": UUID(int=2),
        "number": 1,
        "kind": "training",
        "model": SPEC,
        "weights": "0" * 64,
        "plan": plan,
        "roster": roster,
        "deadline_s": 60,
    }
    return RoundInvitation(**(values | changes))


def check(
    under: Policy,
    asked: RoundInvitation | None = None,
    *,
    now: datetime = NOW,
    latest: datetime = NOW,
) -> None:
    check_bounds(under, asked or invitation(), code_hash=CODE, now=now, latest=latest)


LISTED: Final = (AllowedModel(name="sepsis", code_hash="any"),)
OLD_CODE: Final = (AllowedModel(name="breast-cancer", code_hash=OTHER),)
SHARED: Final = PLAN.model_copy(update={"noise_shares": 3})


@pytest.mark.parametrize(
    ("changes", "asked", "rule", "said"),
    [
        ({"expires": date(2026, 1, 4)}, {}, "policy-expired", "the policy held until 2026-01-04"),
        (
            {"hours": (parse_hours("mon-fri 20:00-06:00"),)},
            {},
            "policy-hours",
            "it is Mon 12:00 there; rounds are answered mon,tue,wed,thu,fri 20:00-06:00",
        ),
        ({"least_cohort": 4}, {}, "least-cohort", "3 hospitals are invited, this one wants 4"),
        (
            {"purposes": ("research", "care")},
            {"purpose": "insurance"},
            "policy-purpose",
            "'insurance' is not among the purposes research, care",
        ),
        (
            {"models": LISTED},
            {},
            "policy-model",
            "'breast-cancer' is not among the models sepsis",
        ),
        ({"models": OLD_CODE}, {}, "policy-model", f"'breast-cancer' has code {CODE} at this ho"),
        ({}, {"plan": SHARED}, "policy-noise", "the plan shares its noise among 3 hospitals; thi"),
        (
            {"noise": "shared", "most_colluding": 1},
            {"plan": SHARED},
            "policy-noise",
            "the plan shares its noise among 3 hospitals; of the 3 of a least sum this one takes 1",
        ),
        ({"epsilon_per_training": 0.5}, {}, "policy-epsilon", "the plan costs epsilon 1."),
    ],
)
def test_what_a_policy_does_not_allow_is_refused_by_the_name_of_the_rule(
    changes: dict[str, Any], asked: dict[str, Any], rule: str, said: str
) -> None:
    check(policy())
    with pytest.raises(PolicyViolated) as refused:
        check(policy(**changes), invitation(**asked))
    assert refused.value.rule == rule
    assert refused.value.reason.startswith(said)


@pytest.mark.parametrize(
    "changes",
    [
        {"hours": (parse_hours("tue 08:00-09:00"), parse_hours("mon 11:00-13:00"))},
        {"least_cohort": 3},
        {"purposes": ("research",)},
        {"models": (*OLD_CODE, AllowedModel(name="breast-cancer", code_hash=CODE))},
        {"models": (AllowedModel(name="breast-cancer", code_hash="any"),)},
        {"models": None, "purposes": None},
    ],
)
def test_what_it_allows_passes(changes: dict[str, Any]) -> None:
    check(policy(**changes))


def test_it_holds_through_its_last_day_in_its_own_time_zone() -> None:
    late = datetime(2026, 1, 5, 23, 30, tzinfo=UTC)
    check(policy(), now=late, latest=late)
    with pytest.raises(PolicyViolated, match="policy-expired"):
        check(policy(timezone="Europe/Vienna"), now=late, latest=late)


def test_a_clock_that_is_set_back_does_not_revive_an_expired_policy() -> None:
    with pytest.raises(PolicyViolated, match=r"log reaches 2026-02-01.*beyond its clock"):
        check(policy(), latest=datetime(2026, 2, 1, tzinfo=UTC))


@given(st.timedeltas(timedelta(0), timedelta(days=900)), st.timedeltas(timedelta(0)))
@settings(max_examples=30)
def test_an_expired_policy_stays_expired_whatever_the_clock_says(
    after: timedelta, back: timedelta
) -> None:
    ended = datetime(2026, 1, 6, tzinfo=UTC) + after
    with pytest.raises(PolicyViolated, match="policy-expired"):
        check(policy(), now=ended - min(back, timedelta(days=3000)), latest=ended)


@given(
    hospitals=st.integers(3, 12),
    least=st.integers(3, 12),
    colluding=st.integers(0, 12),
    shares=st.integers(1, 12),
)
@settings(max_examples=200, deadline=None)
def test_shared_noise_is_taken_only_from_hospitals_that_any_sum_has_and_that_do_not_collude(
    hospitals: int, least: int, colluding: int, shares: int
) -> None:
    least = min(least, hospitals)
    under = policy(noise="shared", most_colluding=colluding, least_cohort=least)
    asked = invitation(hospitals=hospitals, plan=PLAN.model_copy(update={"noise_shares": shares}))
    quorum = min(quorum_of(hospitals, noise_shares=shares), hospitals)
    honest = max(least, quorum) - colluding
    allowed = shares == 1 or shares <= honest
    try:
        check(under.model_copy(update={"epsilon_per_training": 1e9, "epsilon_total": 1e9}), asked)
    except PolicyViolated as violated:
        refused = violated.rule
    else:
        refused = None
    assert refused == (None if allowed else "policy-noise")


def test_a_plan_is_priced_at_the_hospital_s_own_delta() -> None:
    strict, lax = (plan_epsilon(PLAN, delta=delta) for delta in (1e-5, PLAN.delta))
    assert strict > lax
    between = (strict + lax) / 2
    with pytest.raises(PolicyViolated, match="at this hospital's delta 1e-05"):
        check(policy(epsilon_per_training=between))
    check(policy(epsilon_per_training=between, delta=PLAN.delta))


def test_a_plan_costs_what_the_dearer_of_both_kinds_of_rows_does() -> None:
    quiet = plan_epsilon(PLAN, delta=1e-5)
    loud = PLAN.model_copy(update={"evaluation_noise_multiplier": 1.0})
    assert plan_epsilon(loud, delta=1e-5) > 2 * quiet


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"models": LISTED, "purposes": ("research",)}, None),
        ({"approval": "ask"}, "the policy asks a person for each training"),
        ({"models": None}, "the policy names no models"),
        ({"purposes": None}, "the policy names no purposes"),
    ],
)
def test_a_person_is_asked_wherever_the_policy_leaves_it_open(
    changes: dict[str, Any], why: str | None
) -> None:
    assert needs_person(policy(**changes)) == why
