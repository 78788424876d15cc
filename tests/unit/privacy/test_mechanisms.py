"""What a plan releases, as values."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from privacy.errors import PlanError, UnknownMechanism
from privacy.mechanisms import (
    Composed,
    DiscreteGaussian,
    Gaussian,
    Mechanism,
    PoissonSubsampledGaussian,
    Repeated,
    evaluation_mechanism_of,
    local_mechanism_of,
    mechanism_of,
    tally,
)
from privacy.plan import PrivacyPlan

PLAN = PrivacyPlan(
    clip_norm=1.0,
    noise_multiplier=1.5,
    sampling_rate=0.25,
    expected_batch_size=32,
    evaluation_noise_multiplier=4.0,
    steps_per_round=4,
    rounds=10,
    delta=1e-5,
)
SHARED = PLAN.model_copy(update={"sampling_rate": 1.0, "steps_per_round": 1, "noise_shares": 9})


@pytest.mark.parametrize("noise", [0.0, -1.0, math.nan, math.inf])
def test_noise_that_is_no_noise_is_refused(noise: float) -> None:
    with pytest.raises(PlanError, match="noise_multiplier"):
        Gaussian(noise)
    with pytest.raises(PlanError, match="noise_multiplier"):
        DiscreteGaussian(noise)
    with pytest.raises(PlanError, match="noise_multiplier"):
        PoissonSubsampledGaussian(noise, 0.5)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.001, math.nan])
def test_a_sampling_rate_out_of_bounds_is_refused(rate: float) -> None:
    with pytest.raises(PlanError, match="sampling_rate"):
        PoissonSubsampledGaussian(1.0, rate)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(PlanError, match="count -1"):
        Repeated(Gaussian(1.0), -1)


def test_a_plan_releases_its_steps_in_all_rounds_or_the_first_ones() -> None:
    step = PoissonSubsampledGaussian(1.5, 0.25)
    assert mechanism_of(PLAN) == Repeated(step, 40)
    assert mechanism_of(PLAN, rounds=3) == Repeated(step, 12)
    assert mechanism_of(PLAN, rounds=0) == Repeated(step, 0)


@pytest.mark.parametrize("rounds", [-1, 11])
def test_rounds_that_the_plan_does_not_allow_are_refused(rounds: int) -> None:
    with pytest.raises(PlanError, match=f"rounds {rounds}: the plan allows 0 to 10"):
        mechanism_of(PLAN, rounds=rounds)


def test_shared_noise_is_integer_noise_once_a_round() -> None:
    assert mechanism_of(SHARED) == Repeated(DiscreteGaussian(1.5), 10)
    assert mechanism_of(SHARED, rounds=3) == Repeated(DiscreteGaussian(1.5), 3)


def test_alone_a_hospital_has_its_share_of_the_noise() -> None:
    assert local_mechanism_of(SHARED, rounds=3) == Repeated(DiscreteGaussian(0.5), 3)
    assert local_mechanism_of(PLAN, rounds=3) == mechanism_of(PLAN, rounds=3)


def test_held_out_rows_are_evaluated_once_more_than_there_are_rounds() -> None:
    assert evaluation_mechanism_of(PLAN) == Repeated(DiscreteGaussian(4.0), 11)
    assert evaluation_mechanism_of(PLAN, evaluations=2) == Repeated(DiscreteGaussian(4.0), 2)


@pytest.mark.parametrize("broken", [{"sampling_rate": 0.5}, {"steps_per_round": 2}])
@pytest.mark.parametrize("of", [mechanism_of, local_mechanism_of])
def test_a_copied_plan_that_cannot_share_its_noise_has_no_mechanism(
    broken: dict[str, float], of: Callable[[PrivacyPlan], Mechanism]
) -> None:
    with pytest.raises(PlanError, match="noise_shares 9"):
        of(SHARED.model_copy(update=broken))


def test_a_tally_counts_each_release_through_all_nesting() -> None:
    sampled, integer = PoissonSubsampledGaussian(2.0, 0.5), DiscreteGaussian(2.0)
    inner = Composed((sampled, Repeated(integer, 2), Repeated(Gaussian(1.0), 0)))
    assert tally(Composed((Repeated(inner, 3), integer))) == {sampled: 3, integer: 7}


def test_a_tally_takes_a_sample_of_everybody_for_no_sample() -> None:
    everybody = PoissonSubsampledGaussian(2.0, 1.0)
    assert tally(Composed((everybody, Gaussian(2.0)))) == {Gaussian(2.0): 2}


def test_a_tally_of_the_unknown_is_refused() -> None:
    unknown: Mechanism = {"kind": "gaussian"}  # type: ignore[assignment]
    with pytest.raises(UnknownMechanism, match="dict: no accountant knows"):
        tally(Repeated(unknown, 0))
