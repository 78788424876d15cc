"""One set of laws for every accountant, and published figures for each."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import Accountant, PldAccountant, RdpAccountant, epsilon_by_round
from privacy.errors import PlanError, UnknownMechanism
from privacy.mechanisms import (
    Composed,
    Gaussian,
    Mechanism,
    PoissonSubsampledGaussian,
    Repeated,
    mechanism_of,
)
from privacy.plan import PrivacyPlan

STEP = PoissonSubsampledGaussian(noise_multiplier=1.5, sampling_rate=0.04)
MNIST = Repeated(PoissonSubsampledGaussian(1.1, 256 / 60_000), 60 * 60_000 // 256)


class AccountantLaws:
    """What holds for every accountant."""

    accountant: Accountant

    def price(self, mechanism: Mechanism, *, delta: float = 1e-5) -> float:
        return self.accountant.epsilon(mechanism, delta=delta)

    def test_what_released_nothing_costs_nothing(self) -> None:
        assert self.price(Repeated(STEP, 0)) == 0
        assert self.price(Composed(())) == 0

    def test_composition_is_the_same_however_it_is_written(self) -> None:
        whole = self.price(Repeated(STEP, 100))
        assert self.price(Repeated(Repeated(STEP, 10), 10)) == pytest.approx(whole, rel=1e-6)
        parts = Composed((Repeated(STEP, 60), Composed((Repeated(STEP, 40),))))
        assert self.price(parts) == pytest.approx(whole, rel=1e-6)

    def test_sampling_everybody_is_not_sampling(self) -> None:
        sampled = Repeated(PoissonSubsampledGaussian(4.0, 1.0), 10)
        assert self.price(sampled) == pytest.approx(self.price(Repeated(Gaussian(4.0), 10)))

    def test_a_larger_delta_costs_less(self) -> None:
        assert self.price(STEP, delta=1e-3) < self.price(STEP, delta=1e-7)

    @pytest.mark.parametrize("delta", [0.0, -1e-5, 1.0, math.nan])
    def test_a_delta_out_of_bounds_is_refused(self, delta: float) -> None:
        with pytest.raises(PlanError, match="delta"):
            self.price(STEP, delta=delta)

    def test_an_unknown_mechanism_has_no_price_wherever_it_hides(self) -> None:
        unknown: Mechanism = "laplace"  # type: ignore[assignment]
        for mechanism in (unknown, Repeated(unknown, 0), Composed((STEP, Repeated(unknown, 3)))):
            with pytest.raises(UnknownMechanism, match="str: no accountant knows"):
                self.price(mechanism)


class TestPld(AccountantLaws):
    accountant = PldAccountant()

    def test_figures_of_other_implementations(self) -> None:
        assert self.price(Repeated(STEP, 2250)) == pytest.approx(6.7695, abs=2e-4)
        assert self.price(MNIST) == pytest.approx(2.382, abs=1e-3)

    @pytest.mark.parametrize("noise", [0.5, 1.0, 4.530877117, 20.0])
    def test_the_exact_delta_of_a_gaussian(self, noise: float) -> None:
        """Balle and Wang 2018, theorem 8: the accountant is pessimistic, by next to nothing."""
        epsilon = self.price(Gaussian(noise), delta=1e-6)

        def cdf(x: float) -> float:
            return math.erfc(-x / math.sqrt(2)) / 2

        delta = cdf(0.5 / noise - epsilon * noise) - math.exp(epsilon) * cdf(
            -0.5 / noise - epsilon * noise
        )
        assert 0.99e-6 < delta <= 1.0001e-6

    @pytest.mark.parametrize(
        ("noise", "rate", "steps", "expected"),
        # Found with the loss discretised ten times finer.
        [(20.0, 0.1, 10_000, 1.996099), (10.0, 0.01, 10_000, 0.342206)],
    )
    def test_small_losses_are_discretised_finely_enough(
        self, noise: float, rate: float, steps: int, expected: float
    ) -> None:
        price = self.price(Repeated(PoissonSubsampledGaussian(noise, rate), steps))
        assert expected <= price < expected * 1.002


class TestRdp(AccountantLaws):
    accountant = RdpAccountant()

    def test_figures_of_other_implementations(self) -> None:
        assert self.price(Repeated(STEP, 2250)) == pytest.approx(7.32911117, rel=1e-4)
        assert self.price(MNIST) == pytest.approx(2.597, abs=1e-3)
        assert self.price(Gaussian(4.530877117), delta=1e-6) == pytest.approx(1.0, rel=1e-4)

    @pytest.mark.parametrize(
        ("order", "rdp"),
        [(1.5, 6.70580e-4), (2.5, 1.08549e-3), (5, 2.18076e-3), (50, 2.38460e-2)],
    )
    def test_rdp_at_single_orders(self, order: float, rdp: float) -> None:
        delta = 1e-12  # so small that the conversion is not capped at zero
        mechanism = Repeated(PoissonSubsampledGaussian(2.5, 0.01), 50)
        epsilon = RdpAccountant(orders=(order,)).epsilon(mechanism, delta=delta)
        # Canonne, Kamath and Steinke 2020, proposition 12
        conversion = math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
        assert epsilon - conversion == pytest.approx(rdp, rel=1e-5)

    def test_it_never_undercuts_pld(self) -> None:
        for mechanism in (Repeated(STEP, 500), Repeated(PoissonSubsampledGaussian(1.15, 0.2), 50)):
            assert self.price(mechanism) > PldAccountant().epsilon(mechanism, delta=1e-5)


@pytest.mark.parametrize("accountant", [PldAccountant(), RdpAccountant()], ids=lambda a: a.name)
@settings(max_examples=10, deadline=None)
@given(noise=st.floats(1.0, 5.0), rate=st.floats(0.01, 0.5), steps=st.integers(1, 100))
def test_more_noise_costs_less_and_more_steps_cost_more(
    accountant: Accountant, noise: float, rate: float, steps: int
) -> None:
    step = PoissonSubsampledGaussian(noise, rate)
    price = accountant.epsilon(Repeated(step, steps), delta=1e-5)
    noisier = Repeated(PoissonSubsampledGaussian(noise * 1.1, rate), steps)
    assert accountant.epsilon(noisier, delta=1e-5) < price
    assert accountant.epsilon(Repeated(step, steps + 10), delta=1e-5) > price


class TestEpsilonByRound:
    PLAN = PrivacyPlan(
        clip_norm=0.5,
        noise_multiplier=1.15,
        sampling_rate=0.2,
        expected_batch_size=32,
        evaluation_noise_multiplier=4.0,
        steps_per_round=5,
        rounds=10,
        delta=1e-5,
    )

    def test_each_round_is_priced_like_the_rounds_so_far(self) -> None:
        spent = epsilon_by_round(self.PLAN)
        assert len(spent) == 10
        for rounds in (1, 4, 10):
            so_far = mechanism_of(self.PLAN, rounds=rounds)
            price = PldAccountant().epsilon(so_far, delta=1e-5)
            assert spent[rounds - 1] == pytest.approx(price, rel=1e-5)

    def test_it_grows(self) -> None:
        spent = epsilon_by_round(self.PLAN)
        assert list(spent) == sorted(set(spent))

    def test_without_sampling(self) -> None:
        plan = self.PLAN.model_copy(update={"sampling_rate": 1.0, "noise_multiplier": 9.0})
        price = PldAccountant().epsilon(mechanism_of(plan), delta=1e-5)
        assert epsilon_by_round(plan)[-1] == pytest.approx(price, rel=1e-4)
