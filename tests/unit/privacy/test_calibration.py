"""From epsilon to noise and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from privacy.accounting import PldAccountant, RdpAccountant
from privacy.calibration import MOST_EPSILON, PlanPrice, plan_for, price
from privacy.errors import PlanError
from privacy.mechanisms import mechanism_of
from privacy.plan import PrivacyRequest


@settings(max_examples=5, deadline=None)
@given(
    epsilon=st.floats(0.5, 10),
    rate=st.sampled_from([0.01, 0.1, 0.2, 0.5, 1.0]),
    rounds=st.integers(1, 50),
)
def test_the_noise_is_the_least_that_stays_under_epsilon(
    epsilon: float, rate: float, rounds: int
) -> None:
    plan = plan_for(PrivacyRequest(epsilon=epsilon, sampling_rate=rate), rounds=rounds)
    assert price(plan).epsilon_pld <= epsilon
    if plan.noise_multiplier > 0.3:
        less = plan.model_copy(
            update={"noise_multiplier": max(0.3, plan.noise_multiplier * (1 - 2e-3))}
        )
        assert price(less).epsilon_pld > epsilon


def test_everything_else_is_taken_over() -> None:
    request = PrivacyRequest(
        epsilon=3, delta=1e-6, clip_norm=0.7, sampling_rate=0.1, expected_batch_size=17
    )
    plan = plan_for(request, rounds=4)
    assert (plan.delta, plan.clip_norm, plan.sampling_rate) == (1e-6, 0.7, 0.1)
    assert (plan.expected_batch_size, plan.rounds) == (17, 4)


@pytest.mark.parametrize(("rate", "steps"), [(0.2, 5), (0.3, 3), (1.0, 1), (0.8, 1)])
def test_a_round_without_a_number_of_steps_is_one_pass_over_the_data(
    rate: float, steps: int
) -> None:
    request = PrivacyRequest(noise_multiplier=8, sampling_rate=rate, steps_per_round=None)
    assert plan_for(request, rounds=2).steps_per_round == steps
    longer = request.model_copy(update={"steps_per_round": 7})
    assert plan_for(longer, rounds=2).steps_per_round == 7


@pytest.mark.parametrize("rate", [0.01, 1.0])
def test_the_noise_never_falls_below_the_least_a_plan_may_have(rate: float) -> None:
    request = PrivacyRequest(epsilon=20, sampling_rate=rate, steps_per_round=1)
    assert plan_for(request, rounds=1).noise_multiplier == 0.3


def test_epsilon_is_eight_when_nothing_is_said() -> None:
    assert 7.98 < price(plan_for(PrivacyRequest(), rounds=10)).epsilon_pld <= 8


def test_the_noise_asked_for_is_kept() -> None:
    plan = plan_for(PrivacyRequest(noise_multiplier=2.5), rounds=3)
    assert plan.noise_multiplier == 2.5


def test_a_price_names_both_accountants() -> None:
    plan = plan_for(PrivacyRequest(noise_multiplier=2.5, delta=1e-6), rounds=3)
    mechanism = mechanism_of(plan)
    assert price(plan) == PlanPrice(
        epsilon_pld=PldAccountant().epsilon(mechanism, delta=1e-6),
        epsilon_rdp=RdpAccountant().epsilon(mechanism, delta=1e-6),
        delta=1e-6,
    )


def test_an_epsilon_out_of_reach_is_refused_with_advice() -> None:
    request = PrivacyRequest(epsilon=0.01, sampling_rate=1, steps_per_round=1000)
    with pytest.raises(PlanError, match=r"epsilon 0\.01 .*allow a larger epsilon"):
        plan_for(request, rounds=1000)


@pytest.mark.parametrize(("noise", "rounds"), [(0.3, 100), (0.8, 20)])
def test_noise_that_protects_nobody_is_refused(noise: float, rounds: int) -> None:
    with pytest.raises(PlanError, match=rf"noise_multiplier {noise}: .*more than 20"):
        plan_for(PrivacyRequest(noise_multiplier=noise), rounds=rounds)


@pytest.mark.parametrize("rounds", [0, 1001])
def test_rounds_out_of_bounds_are_refused(rounds: int) -> None:
    with pytest.raises(PlanError, match=f"rounds {rounds}"):
        plan_for(PrivacyRequest(), rounds=rounds)


def test_the_largest_epsilon_is_the_one_that_may_be_asked_for() -> None:
    assert PrivacyRequest(epsilon=MOST_EPSILON).epsilon == MOST_EPSILON
    with pytest.raises(ValidationError):
        PrivacyRequest(epsilon=MOST_EPSILON * 1.001)
