"""Concentrated privacy: what bounds the discrete Gaussian, and nothing tighter."""

from __future__ import annotations

import math

import pytest
from dp_accounting import ZCDpEvent
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import gaussian_dp
from privacy.errors import PlanError
from privacy.zcdp import epsilon_of, rho_of

DELTAS = st.sampled_from([1e-9, 1e-6, 1e-5, 1e-3])


@settings(max_examples=50, deadline=None)
@given(rho=st.floats(1e-3, 20), delta=DELTAS)
def test_the_best_order_is_no_worse_than_any_of_a_fine_grid(rho: float, delta: float) -> None:
    orders = [1 + 10 ** (exponent / 50) for exponent in range(-150, 200)]
    on_grid = RdpAccountant(orders).compose(ZCDpEvent(rho)).get_epsilon(delta)
    assert on_grid * (1 - 1e-3) < epsilon_of(rho, delta=delta) <= on_grid * (1 + 1e-9)


@settings(max_examples=50, deadline=None)
@given(epsilon=st.floats(0.01, 50), delta=DELTAS)
def test_rho_and_epsilon_are_inverse(epsilon: float, delta: float) -> None:
    assert epsilon_of(rho_of(epsilon, delta=delta), delta=delta) == pytest.approx(epsilon, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(
    sigma=st.floats(0.7, 6), sensitivity=st.sampled_from([1, 2]), steps=st.integers(1, 6), d=DELTAS
)
def test_integer_noise_never_costs_more(
    sigma: float, sensitivity: int, steps: int, d: float
) -> None:
    """The true curve of integer noise in one dimension, from its probabilities."""
    once = privacy_loss_distribution.from_discrete_gaussian_mechanism(
        sigma * sensitivity, sensitivity, value_discretization_interval=1e-3
    )
    true = once.self_compose(steps).get_epsilon_for_delta(d)
    assert true <= epsilon_of(steps / (2 * sigma**2), delta=d)


def test_integer_noise_can_cost_more_than_gaussian_noise() -> None:
    """So the exact Gaussian curve may not price it."""
    once = privacy_loss_distribution.from_discrete_gaussian_mechanism(
        1.0, 1, value_discretization_interval=1e-4, pessimistic_estimate=False
    )
    assert once.get_epsilon_for_delta(1e-3) > gaussian_dp.epsilon_of(1.0, delta=1e-3) + 0.1


def test_the_figure_of_other_implementations() -> None:
    assert epsilon_of(1 / (2 * 4.530877117**2), delta=1e-6) == pytest.approx(1.0, rel=1e-9)


def test_the_ends_of_the_curve() -> None:
    assert epsilon_of(0.0, delta=1e-5) == 0
    assert epsilon_of(1e-11, delta=1e-5) == 0


@pytest.mark.parametrize("rho", [-0.1, math.nan, math.inf])
def test_a_rho_out_of_bounds_is_refused(rho: float) -> None:
    with pytest.raises(PlanError, match="rho"):
        epsilon_of(rho, delta=1e-5)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan])
def test_an_epsilon_of_nothing_is_refused(epsilon: float) -> None:
    with pytest.raises(PlanError, match="epsilon"):
        rho_of(epsilon, delta=1e-5)


@pytest.mark.parametrize("delta", [0.0, 1.0, math.nan])
def test_a_delta_out_of_bounds_is_refused(delta: float) -> None:
    with pytest.raises(PlanError, match="delta"):
        epsilon_of(1.0, delta=delta)
    with pytest.raises(PlanError, match="delta"):
        rho_of(1.0, delta=delta)
