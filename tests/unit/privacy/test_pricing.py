"""What a plan costs, in all and by round."""

from __future__ import annotations

import pytest

from privacy import gaussian_dp, zcdp
from privacy.accounting import PldAccountant, RdpAccountant
from privacy.errors import PlanError
from privacy.mechanisms import evaluation_mechanism_of, mechanism_of
from privacy.plan import PrivacyPlan
from privacy.pricing import epsilon_by_round, epsilon_of_plan, price

SAMPLED = PrivacyPlan(
    clip_norm=0.5,
    noise_multiplier=1.15,
    sampling_rate=0.2,
    expected_batch_size=32,
    evaluation_noise_multiplier=4.0,
    steps_per_round=5,
    rounds=10,
    delta=1e-5,
)
FULL_BATCH = SAMPLED.model_copy(
    update={
        "sampling_rate": 1.0,
        "noise_multiplier": 9.0,
        "steps_per_round": 2,
        "evaluation_noise_multiplier": 30.0,
    }
)
SHARED = SAMPLED.model_copy(
    update={
        "sampling_rate": 1.0,
        "noise_multiplier": 6.0,
        "steps_per_round": 1,
        "noise_shares": 4,
        "evaluation_noise_multiplier": 30.0,
    }
)
PLANS = pytest.mark.parametrize(
    "plan", [SAMPLED, FULL_BATCH, SHARED], ids=["sampled", "full batch", "shared"]
)


def test_a_plan_with_sampling_is_priced_by_pld() -> None:
    cost = price(SAMPLED)
    assert cost.accountant == "pld"
    assert cost.epsilon_trained == PldAccountant().epsilon(mechanism_of(SAMPLED), delta=1e-5)
    assert cost.epsilon_rdp == RdpAccountant().epsilon(mechanism_of(SAMPLED), delta=1e-5)
    assert cost.epsilon_local is None
    assert cost.delta == 1e-5


def test_a_full_batch_is_priced_exactly() -> None:
    cost = price(FULL_BATCH)
    assert cost.accountant == "gaussian"
    assert cost.epsilon_trained == pytest.approx(
        gaussian_dp.epsilon_of(20**0.5 / 9, delta=1e-5), rel=1e-12
    )
    assert 1.05 < cost.epsilon_rdp / cost.epsilon < 1.2


def test_held_out_rows_cost_what_their_evaluations_release() -> None:
    cost = price(SAMPLED)
    assert cost.epsilon_held_out == pytest.approx(zcdp.epsilon_of(11 / 32, delta=1e-5), rel=1e-12)


def test_shared_noise_is_priced_by_zcdp_beside_what_it_is_worth_alone() -> None:
    cost = price(SHARED)
    assert cost.accountant == "zcdp"
    assert cost.epsilon_trained == pytest.approx(zcdp.epsilon_of(10 / 72, delta=1e-5), rel=1e-12)
    assert cost.epsilon_local == pytest.approx(zcdp.epsilon_of(40 / 72, delta=1e-5), rel=1e-12)


@pytest.mark.parametrize("evaluation_noise", [0.5, 400.0])
@PLANS
def test_a_plan_costs_the_larger_of_both_kinds_of_rows(
    plan: PrivacyPlan, evaluation_noise: float
) -> None:
    plan = plan.model_copy(update={"evaluation_noise_multiplier": evaluation_noise})
    cost = price(plan)
    larger = cost.epsilon_held_out if evaluation_noise < 1 else cost.epsilon_trained
    assert cost.epsilon == epsilon_of_plan(plan) == larger
    rdp = RdpAccountant()
    by_rdp = [
        rdp.epsilon(rows, delta=1e-5)
        for rows in (mechanism_of(plan), evaluation_mechanism_of(plan))
    ]
    assert cost.epsilon_rdp == max(by_rdp) > cost.epsilon * 0.999


@PLANS
def test_the_last_round_makes_the_price_of_the_plan(plan: PrivacyPlan) -> None:
    assert epsilon_by_round(plan)[-1] == pytest.approx(epsilon_of_plan(plan), rel=1e-5)


@PLANS
def test_each_round_is_priced_like_a_plan_of_so_many_rounds(plan: PrivacyPlan) -> None:
    spent = epsilon_by_round(plan)
    assert len(spent) == 10
    for rounds in (1, 4):
        shorter = plan.model_copy(update={"rounds": rounds})
        assert spent[rounds - 1] == pytest.approx(epsilon_of_plan(shorter), rel=1e-5)


@PLANS
def test_each_round_adds_to_what_is_spent(plan: PrivacyPlan) -> None:
    spent = epsilon_by_round(plan)
    assert list(spent) == sorted(set(spent))


def test_evaluations_can_be_what_costs_most_in_each_round() -> None:
    plan = FULL_BATCH.model_copy(update={"evaluation_noise_multiplier": 1.0})
    expected = [zcdp.epsilon_of((r + 1) / 2, delta=1e-5) for r in range(1, 11)]
    assert epsilon_by_round(plan) == pytest.approx(expected, rel=1e-12)


def test_a_plan_that_evaded_its_validation_has_no_price() -> None:
    with pytest.raises(PlanError, match="noise_shares 4"):
        price(SHARED.model_copy(update={"steps_per_round": 2}))
