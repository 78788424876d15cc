"""From epsilon to noise and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from privacy import gaussian_dp, zcdp
from privacy.calibration import MOST_EPSILON, plan_for
from privacy.errors import PlanError
from privacy.plan import PrivacyPlan, PrivacyRequest
from privacy.pricing import price


def quieter(plan: PrivacyPlan, factor: float) -> PrivacyPlan:
    """The plan with less noise on its rounds, as far as a plan may have it."""
    less = max(0.3, plan.noise_multiplier * factor)
    return plan.model_copy(update={"noise_multiplier": less})


@settings(max_examples=5, deadline=None)
@given(
    epsilon=st.floats(0.5, 10),
    rate=st.sampled_from([0.01, 0.1, 0.2, 0.5]),
    rounds=st.integers(1, 50),
)
def test_the_noise_is_the_least_that_stays_under_epsilon(
    epsilon: float, rate: float, rounds: int
) -> None:
    plan = plan_for(PrivacyRequest(epsilon=epsilon, sampling_rate=rate), rounds=rounds)
    assert price(plan).epsilon <= epsilon
    if plan.noise_multiplier > 0.3:
        assert price(quieter(plan, 1 - 2e-3)).epsilon_trained > epsilon


@settings(max_examples=40, deadline=None)
@given(
    epsilon=st.floats(0.2, 20),
    rounds=st.integers(1, 1000),
    delta=st.sampled_from([1e-12, 1e-6, 1e-3]),
    shares=st.sampled_from([1, 2, 5]),
)
def test_the_noise_of_a_full_batch_is_exact(
    epsilon: float, rounds: int, delta: float, shares: int
) -> None:
    request = PrivacyRequest(
        epsilon=epsilon, delta=delta, sampling_rate=1, steps_per_round=1, noise_shares=shares
    )
    plan = plan_for(request, rounds=rounds)
    assert price(plan).epsilon <= epsilon
    if plan.noise_multiplier > 0.3:
        assert price(quieter(plan, 1 - 1e-6)).epsilon_trained > epsilon
        assert price(plan).epsilon_trained == pytest.approx(epsilon, rel=1e-6)
    if plan.evaluation_noise_multiplier > 0.3:
        assert price(plan).epsilon_held_out == pytest.approx(epsilon, rel=1e-6)


def test_the_noise_of_a_full_batch_by_the_formulas() -> None:
    request = PrivacyRequest(epsilon=3, sampling_rate=1, steps_per_round=4)
    exact = plan_for(request, rounds=25)
    mu, rho = gaussian_dp.mu_of(3, delta=1e-5), zcdp.rho_of(3, delta=1e-5)
    assert exact.noise_multiplier == pytest.approx(10 / mu, rel=1e-8)
    assert exact.evaluation_noise_multiplier == pytest.approx(math.sqrt(26 / (2 * rho)), rel=1e-8)
    request = PrivacyRequest(epsilon=3, sampling_rate=1, steps_per_round=1, noise_shares=4)
    shared = plan_for(request, rounds=25)
    assert shared.noise_multiplier == pytest.approx(math.sqrt(25 / (2 * rho)), rel=1e-8)
    assert shared.noise_shares == 4


def test_everything_else_is_taken_over() -> None:
    request = PrivacyRequest(
        epsilon=3, delta=1e-6, clip_norm=0.7, sampling_rate=0.1, expected_batch_size=17
    )
    plan = plan_for(request, rounds=4)
    assert (plan.delta, plan.clip_norm, plan.sampling_rate) == (1e-6, 0.7, 0.1)
    assert (plan.expected_batch_size, plan.rounds) == (17, 4)


@pytest.mark.parametrize(("rate", "steps"), [(0.2, 5), (0.3, 3), (1.0, 8), (0.8, 1)])
def test_a_round_without_a_number_of_steps_is_one_pass_or_eight_full_batches(
    rate: float, steps: int
) -> None:
    request = PrivacyRequest(noise_multiplier=8, sampling_rate=rate, steps_per_round=None)
    assert plan_for(request, rounds=2).steps_per_round == steps
    longer = request.model_copy(update={"steps_per_round": 7})
    assert plan_for(longer, rounds=2).steps_per_round == 7


@pytest.mark.parametrize("rate", [0.01, 1.0])
def test_the_noise_never_falls_below_the_least_a_plan_may_have(rate: float) -> None:
    request = PrivacyRequest(epsilon=20, sampling_rate=rate, steps_per_round=1)
    plan = plan_for(request, rounds=1)
    assert plan.noise_multiplier == 0.3
    assert plan.evaluation_noise_multiplier >= 0.3


def test_epsilon_is_eight_when_nothing_is_said() -> None:
    assert 7.98 < price(plan_for(PrivacyRequest(), rounds=10)).epsilon <= 8


def test_the_noise_asked_for_is_kept_and_evaluations_cost_no_more() -> None:
    plan = plan_for(PrivacyRequest(noise_multiplier=2.5, sampling_rate=0.2), rounds=3)
    assert plan.noise_multiplier == 2.5
    cost = price(plan)
    assert cost.epsilon_held_out == pytest.approx(cost.epsilon_trained, rel=1e-6)


def test_noise_beyond_what_evaluations_may_have_still_makes_a_plan() -> None:
    plan = plan_for(PrivacyRequest(noise_multiplier=1000, sampling_rate=0.001), rounds=3)
    assert plan.evaluation_noise_multiplier == 1000
    assert price(plan).epsilon == price(plan).epsilon_held_out > price(plan).epsilon_trained


@pytest.mark.parametrize(
    ("rate", "steps", "rounds", "delta"),
    [
        (1, 1000, 100, 1e-5),
        (0.5, 10_000, 10, 1e-5),
        (0.5, 3, 40, 1e-5),
        # Only the evaluations are too many.
        (0.001, 1, 200, 1e-12),
    ],
)
def test_an_epsilon_out_of_reach_is_refused_with_advice(
    rate: float, steps: int, rounds: int, delta: float
) -> None:
    request = PrivacyRequest(epsilon=0.01, sampling_rate=rate, steps_per_round=steps, delta=delta)
    with pytest.raises(PlanError, match=r"epsilon 0\.01 .*allow a larger epsilon"):
        plan_for(request, rounds=rounds)


@pytest.mark.parametrize(("noise", "rounds"), [(0.3, 100), (0.8, 20)])
@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_noise_that_protects_nobody_is_refused(noise: float, rounds: int, rate: float) -> None:
    with pytest.raises(PlanError, match=rf"noise_multiplier {noise}: .*more than 20"):
        plan_for(PrivacyRequest(noise_multiplier=noise, sampling_rate=rate), rounds=rounds)


@pytest.mark.parametrize("rounds", [0, 1001])
def test_rounds_out_of_bounds_are_refused(rounds: int) -> None:
    with pytest.raises(PlanError, match=f"rounds {rounds}"):
        plan_for(PrivacyRequest(), rounds=rounds)


def test_a_copied_request_that_cannot_share_its_noise_makes_no_plan() -> None:
    request = PrivacyRequest(epsilon=3, sampling_rate=0.5).model_copy(update={"noise_shares": 3})
    with pytest.raises(PlanError, match=r"noise_shares 3: .*sampling_rate 1"):
        plan_for(request, rounds=5)


def test_the_largest_epsilon_is_the_one_that_may_be_asked_for() -> None:
    assert PrivacyRequest(epsilon=MOST_EPSILON).epsilon == MOST_EPSILON
    with pytest.raises(ValidationError):
        PrivacyRequest(epsilon=MOST_EPSILON * 1.001)
