"""One set of laws for every accountant, and published figures for each."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import gaussian_dp, zcdp
from privacy.accounting import (
    Accountant,
    GaussianAccountant,
    PldAccountant,
    RdpAccountant,
    ZcdpAccountant,
    adaptive_accountant,
    adaptive_epsilon,
    pld_interval,
    tightest_accountant,
)
from privacy.errors import PlanError, UnknownMechanism
from privacy.mechanisms import (
    Composed,
    DiscreteGaussian,
    Gaussian,
    Mechanism,
    PoissonSubsampledGaussian,
    Repeated,
)

SAMPLED = PoissonSubsampledGaussian(noise_multiplier=1.5, sampling_rate=0.04)
MNIST = Repeated(PoissonSubsampledGaussian(1.1, 256 / 60_000), 60 * 60_000 // 256)


class AccountantLaws:
    """What holds for every accountant, on a step that it knows."""

    accountant: ClassVar[Accountant]
    step: ClassVar[Mechanism]

    def price(self, mechanism: Mechanism, *, delta: float = 1e-5) -> float:
        return self.accountant.epsilon(mechanism, delta=delta)

    def test_what_released_nothing_costs_nothing(self) -> None:
        assert self.price(Repeated(self.step, 0)) == 0
        assert self.price(Composed(())) == 0

    def test_composition_is_the_same_however_it_is_written(self) -> None:
        whole = self.price(Repeated(self.step, 100))
        assert self.price(Repeated(Repeated(self.step, 10), 10)) == whole
        parts = Composed((Repeated(self.step, 60), Composed((Repeated(self.step, 40),))))
        assert self.price(parts) == whole

    def test_sampling_everybody_is_not_sampling(self) -> None:
        sampled = Repeated(PoissonSubsampledGaussian(4.0, 1.0), 10)
        assert self.price(sampled) == self.price(Repeated(Gaussian(4.0), 10))

    def test_a_larger_delta_costs_less(self) -> None:
        assert self.price(self.step, delta=1e-3) < self.price(self.step, delta=1e-7)

    @pytest.mark.parametrize("delta", [0.0, -1e-5, 1.0, math.nan])
    def test_a_delta_out_of_bounds_is_refused(self, delta: float) -> None:
        with pytest.raises(PlanError, match="delta"):
            self.price(self.step, delta=delta)

    def test_an_unknown_mechanism_has_no_price_wherever_it_hides(self) -> None:
        unknown: Mechanism = "laplace"  # type: ignore[assignment]
        hidden = Composed((self.step, Repeated(unknown, 3)))
        for mechanism in (unknown, Repeated(unknown, 0), hidden):
            with pytest.raises(UnknownMechanism, match="str: no accountant knows"):
                self.price(mechanism)

    def test_it_never_undercuts_the_exact_price_of_gaussians(self) -> None:
        for noise in (0.5, 1.0, 4.530877117, 20.0):
            exact = gaussian_dp.epsilon_of(1 / noise, delta=1e-6)
            assert self.price(Gaussian(noise), delta=1e-6) >= exact * (1 - 1e-6)


class TestGaussian(AccountantLaws):
    accountant = GaussianAccountant()
    step = Gaussian(3.0)

    def test_parts_of_different_noise_add_up_by_their_precision(self) -> None:
        parts = Composed((Repeated(Gaussian(3.0), 9), Repeated(Gaussian(4.0), 16)))
        assert self.price(parts) == self.price(Repeated(Gaussian(1.0), 2))

    @pytest.mark.parametrize("other", [SAMPLED, DiscreteGaussian(3.0)])
    def test_only_gaussians_have_its_curve(self, other: Mechanism) -> None:
        name = type(other).__name__
        with pytest.raises(UnknownMechanism, match=f"{name}: the accountant gaussian"):
            self.price(Composed((self.step, other)))


class TestZcdp(AccountantLaws):
    accountant = ZcdpAccountant()
    step = DiscreteGaussian(3.0)

    def test_integer_noise_is_as_concentrated_as_gaussian_noise(self) -> None:
        assert self.price(DiscreteGaussian(3.0)) == self.price(Gaussian(3.0))

    def test_a_sampled_step_is_refused(self) -> None:
        with pytest.raises(UnknownMechanism, match="the accountant zcdp"):
            self.price(SAMPLED)


class TestPld(AccountantLaws):
    accountant = PldAccountant()
    step = SAMPLED

    def test_figures_of_other_implementations(self) -> None:
        assert self.price(Repeated(SAMPLED, 2250)) == pytest.approx(6.7695, abs=2e-4)
        assert self.price(MNIST) == pytest.approx(2.382, abs=1e-3)

    def test_it_is_pessimistic_by_next_to_nothing(self) -> None:
        for noise in (0.5, 1.0, 4.530877117, 20.0):
            epsilon = self.price(Gaussian(noise), delta=1e-6)
            assert 0.99e-6 < gaussian_dp.delta_of(1 / noise, epsilon) <= 1.0001e-6

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

    def test_integer_noise_is_refused(self) -> None:
        with pytest.raises(UnknownMechanism, match="DiscreteGaussian: the accountant pld"):
            self.price(DiscreteGaussian(3.0))
        with pytest.raises(UnknownMechanism, match="DiscreteGaussian: PLD"):
            pld_interval([DiscreteGaussian(3.0)])


class TestRdp(AccountantLaws):
    accountant = RdpAccountant()
    step = SAMPLED

    def test_figures_of_other_implementations(self) -> None:
        assert self.price(Repeated(SAMPLED, 2250)) == pytest.approx(7.32911117, rel=1e-4)
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

    def test_it_never_undercuts_a_tighter_accountant(self) -> None:
        for mechanism in (
            Repeated(SAMPLED, 500),
            Repeated(PoissonSubsampledGaussian(1.15, 0.2), 50),
            Repeated(DiscreteGaussian(9.0), 50),
        ):
            tightest = tightest_accountant(mechanism)
            assert self.price(mechanism) > tightest.epsilon(mechanism, delta=1e-5)


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


EVERYBODY = PoissonSubsampledGaussian(4.0, 1.0)


@pytest.mark.parametrize(
    ("parts", "declared", "adaptive"),
    [
        ((), "gaussian", "gaussian"),
        ((Gaussian(3.0), Repeated(EVERYBODY, 3)), "gaussian", "gaussian"),
        ((Gaussian(3.0), Repeated(SAMPLED, 0)), "gaussian", "gaussian"),
        ((DiscreteGaussian(3.0), Gaussian(3.0)), "zcdp", "zcdp"),
        ((SAMPLED, Gaussian(3.0)), "pld", "rdp"),
        ((SAMPLED, DiscreteGaussian(3.0)), "rdp", "rdp"),
    ],
)
def test_each_mechanism_goes_to_the_accountant_that_may_price_it(
    parts: tuple[Mechanism, ...], declared: str, adaptive: str
) -> None:
    assert tightest_accountant(Composed(parts)).name == declared
    assert adaptive_accountant(Composed(parts)).name == adaptive


@pytest.mark.parametrize("choose", [tightest_accountant, adaptive_accountant])
def test_no_accountant_is_chosen_for_an_unknown_mechanism(choose: object) -> None:
    assert callable(choose)
    with pytest.raises(UnknownMechanism, match="dict: no accountant knows"):
        choose(Composed((Gaussian(1.0), {"kind": "laplace"})))  # type: ignore[arg-type]


class TestAdaptive:
    def test_gaussians_are_exact(self) -> None:
        chosen = Composed((Gaussian(2.0), Repeated(Gaussian(5.0), 7), EVERYBODY))
        mu = math.sqrt(1 / 4 + 7 / 25 + 1 / 16)
        price = gaussian_dp.epsilon_of(mu, delta=1e-6)
        assert adaptive_epsilon(chosen, delta=1e-6) == pytest.approx(price, rel=1e-12)

    def test_integer_noise_is_priced_by_rho(self) -> None:
        chosen = Composed((DiscreteGaussian(2.0), Repeated(Gaussian(5.0), 7)))
        price = zcdp.epsilon_of((1 / 4 + 7 / 25) / 2, delta=1e-6)
        assert adaptive_epsilon(chosen, delta=1e-6) == pytest.approx(price, rel=1e-12)

    def test_one_sampled_step_makes_all_of_it_renyi(self) -> None:
        chosen = Composed((Repeated(Gaussian(8.0), 20), SAMPLED))
        price = adaptive_epsilon(chosen, delta=1e-5)
        assert price == RdpAccountant().epsilon(chosen, delta=1e-5)
        assert price > PldAccountant().epsilon(chosen, delta=1e-5)

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(
            st.builds(Gaussian, st.floats(1, 50))
            | st.builds(DiscreteGaussian, st.floats(1, 50))
            | st.builds(PoissonSubsampledGaussian, st.floats(1, 50), st.just(0.1)),
            max_size=6,
        )
    )
    def test_each_further_part_adds_to_the_price(self, parts: list[Mechanism]) -> None:
        spent = [
            adaptive_epsilon(Composed(tuple(parts[:n])), delta=1e-5) for n in range(len(parts) + 1)
        ]
        assert spent == sorted(spent)
