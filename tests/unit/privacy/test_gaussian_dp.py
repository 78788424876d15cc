"""The exact curve of Gaussian noise, there and back."""

from __future__ import annotations

import math

import pytest
from dp_accounting import get_epsilon_gaussian, get_sigma_gaussian
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import PlanError
from privacy.gaussian_dp import delta_of, epsilon_of, mu_of

DELTAS = st.sampled_from([1e-12, 1e-9, 1e-6, 1e-5, 1e-3])


@settings(max_examples=100, deadline=None)
@given(noise=st.floats(0.05, 1000), delta=DELTAS)
def test_the_analytic_gaussian_of_dp_accounting(noise: float, delta: float) -> None:
    expected = get_epsilon_gaussian(noise, delta)
    assert epsilon_of(1 / noise, delta=delta) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(epsilon=st.floats(0.01, 20), delta=DELTAS)
def test_the_noise_of_dp_accounting(epsilon: float, delta: float) -> None:
    expected = 1 / get_sigma_gaussian(epsilon, delta)
    assert mu_of(epsilon, delta=delta) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(mu=st.floats(1e-3, 1e4), delta=DELTAS)
def test_epsilon_and_mu_are_inverse(mu: float, delta: float) -> None:
    epsilon = epsilon_of(mu, delta=delta)
    if epsilon > 0:
        assert mu_of(epsilon, delta=delta) == pytest.approx(mu, rel=1e-8)
    else:
        assert delta_of(mu, 0.0) <= delta


@pytest.mark.parametrize(
    ("mu", "delta", "epsilon"),
    [
        # With 60 digits; the first of them is what Rényi accounting calls epsilon 1.
        (1 / 4.530877117, 1e-6, 0.9273923380),
        (1.0, 1e-5, 4.3771780957),
    ],
)
def test_figures_at_high_precision(mu: float, delta: float, epsilon: float) -> None:
    assert epsilon_of(mu, delta=delta) == pytest.approx(epsilon, rel=1e-7)


def test_the_ends_of_the_curve() -> None:
    assert epsilon_of(0.0, delta=1e-5) == 0
    assert epsilon_of(0.1, delta=0.5) == 0
    assert mu_of(1e12, delta=0.5) == 1e6


@pytest.mark.parametrize("mu", [-0.1, 1e6 + 1, math.nan, math.inf])
def test_a_mu_out_of_bounds_is_refused(mu: float) -> None:
    with pytest.raises(PlanError, match="mu"):
        epsilon_of(mu, delta=1e-5)


def test_a_negative_epsilon_is_refused() -> None:
    with pytest.raises(PlanError, match=r"epsilon -0\.5"):
        mu_of(-0.5, delta=1e-5)


@pytest.mark.parametrize("delta", [0.0, 1.0, math.nan])
def test_a_delta_out_of_bounds_is_refused(delta: float) -> None:
    with pytest.raises(PlanError, match="delta"):
        epsilon_of(1.0, delta=delta)
    with pytest.raises(PlanError, match="delta"):
        mu_of(1.0, delta=delta)
