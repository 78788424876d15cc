"""What a plan releases, as values."""

from __future__ import annotations

import math

import pytest

from privacy.errors import PlanError
from privacy.mechanisms import (
    Gaussian,
    PoissonSubsampledGaussian,
    Repeated,
    mechanism_of,
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


@pytest.mark.parametrize("noise", [0.0, -1.0, math.nan, math.inf])
def test_noise_that_is_no_noise_is_refused(noise: float) -> None:
    with pytest.raises(PlanError, match="noise_multiplier"):
        Gaussian(noise)
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
