"""The same prices from Opacus, and from ways into dp-accounting that ours does not take."""

from __future__ import annotations

import dp_accounting
import pytest
from dp_accounting.pld import privacy_loss_distribution
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from opacus.accountants import RDPAccountant as OpacusRdp

from privacy.accounting import GaussianAccountant, PldAccountant, RdpAccountant
from privacy.calibration import plan_for
from privacy.mechanisms import Gaussian, PoissonSubsampledGaussian, Repeated
from privacy.plan import PrivacyRequest

NOISE = st.floats(0.8, 5.0)
RATES = st.floats(0.01, 0.3)
STEPS = st.integers(1, 300)


@pytest.mark.filterwarnings("ignore:Optimal order is the")
@settings(max_examples=15, deadline=None)
@given(noise=NOISE, rate=RATES, steps=STEPS)
def test_opacus_by_renyi_orders(noise: float, rate: float, steps: int) -> None:
    # The same whole orders: the two differ in how they bound fractional ones.
    orders = list(range(2, 64))
    opacus = OpacusRdp()
    opacus.history = [(noise, rate, steps)]
    step = PoissonSubsampledGaussian(noise, rate)
    ours = RdpAccountant(orders).epsilon(Repeated(step, steps), delta=1e-5)
    assert ours == pytest.approx(opacus.get_epsilon(1e-5, alphas=orders), rel=1e-6)


# Opacus starts from Rényi orders, and warns when more of them would help.
@pytest.mark.filterwarnings("ignore:Optimal order is the")
@settings(max_examples=8, deadline=None)
@given(noise=st.floats(1.2, 4.0), rate=st.floats(0.02, 0.2), steps=st.integers(20, 200))
def test_opacus_by_privacy_loss_random_variables(noise: float, rate: float, steps: int) -> None:
    error = 0.01
    opacus = PRVAccountant()
    opacus.history = [(noise, rate, steps)]
    upper = opacus.get_epsilon(1e-5, eps_error=error)
    step = PoissonSubsampledGaussian(noise, rate)
    ours = PldAccountant().epsilon(Repeated(step, steps), delta=1e-5)
    assert upper - 2 * error - 2e-3 <= ours <= upper + 2e-3


def test_opacus_on_a_long_training() -> None:
    opacus = PRVAccountant()
    opacus.history = [(1.5, 0.04, 2250)]
    assert opacus.get_epsilon(1e-5) == pytest.approx(6.77913208, rel=1e-6)  # an upper bound
    opacus_rdp = OpacusRdp()
    opacus_rdp.history = [(1.5, 0.04, 2250)]
    assert opacus_rdp.get_epsilon(1e-5) == pytest.approx(7.32911117, rel=1e-8)


@pytest.mark.parametrize(
    ("noise", "rate", "steps"), [(2.0, 0.1, 50), (1.2, 0.04, 200), (4.0, 0.3, 100)]
)
def test_a_sampled_step_as_a_mixture_of_gaussians(noise: float, rate: float, steps: int) -> None:
    mixture = privacy_loss_distribution.from_mixture_gaussian_mechanism(
        noise,
        sensitivities=[0.0, 1.0],
        sampling_probs=[1 - rate, rate],
        value_discretization_interval=1e-3,
    )
    expected = mixture.self_compose(steps).get_epsilon_for_delta(1e-5)
    step = PoissonSubsampledGaussian(noise, rate)
    ours = PldAccountant().epsilon(Repeated(step, steps), delta=1e-5)
    assert ours == pytest.approx(expected, rel=1e-3, abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(noise=st.floats(0.5, 100), steps=st.integers(1, 200))
def test_many_gaussians_as_one(noise: float, steps: int) -> None:
    expected = dp_accounting.get_epsilon_gaussian(noise / steps**0.5, 1e-5)
    ours = GaussianAccountant().epsilon(Repeated(Gaussian(noise), steps), delta=1e-5)
    assert ours == pytest.approx(expected, rel=1e-6)


@settings(max_examples=12, deadline=None)
@given(noise=st.floats(2, 30), steps=st.integers(1, 100))
def test_many_gaussians_by_convolution(noise: float, steps: int) -> None:
    once = privacy_loss_distribution.from_gaussian_mechanism(
        noise, value_discretization_interval=1e-4
    )
    upper = once.self_compose(steps).get_epsilon_for_delta(1e-5)
    ours = GaussianAccountant().epsilon(Repeated(Gaussian(noise), steps), delta=1e-5)
    assert ours <= upper * (1 + 1e-6)
    assert ours == pytest.approx(upper, rel=5e-3, abs=1e-3)


def test_noise_as_calibrated_by_dp_accounting() -> None:
    plan = plan_for(PrivacyRequest(epsilon=3, sampling_rate=0.1, steps_per_round=10), rounds=20)
    noise = dp_accounting.calibrate_dp_mechanism(
        dp_accounting.pld.PLDAccountant,
        lambda sigma: dp_accounting.SelfComposedDpEvent(
            dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(sigma)), 200
        ),
        3.0,
        1e-5,
        dp_accounting.ExplicitBracketInterval(2.0, 4.0),
        tol=3e-3,
    )
    assert plan.noise_multiplier == pytest.approx(noise, abs=6e-3)


def test_noise_as_calibrated_by_the_analytic_gaussian() -> None:
    plan = plan_for(PrivacyRequest(epsilon=3, sampling_rate=1, steps_per_round=1), rounds=20)
    noise = dp_accounting.get_sigma_gaussian(3.0, 1e-5) * 20**0.5
    assert plan.noise_multiplier == pytest.approx(noise, rel=1e-6)
