"""Integer noise: its distribution, its laws, and what a sum of shares may be called."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from privacy.discrete import MOST_EXCESS, discrete_gaussian, excess_of_sum, share_std
from privacy.errors import PlanError
from privacy.gaussian_dp import delta_of
from privacy.noise import SecureGenerator

MANY = 200_000
DEVIATIONS = st.floats(0.5, 1e9)


def mass(std: float, reach: int) -> np.ndarray:
    """Probabilities of the whole numbers from -reach to reach."""
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * std * std))
    probabilities: np.ndarray = weights / weights.sum()
    return probabilities


@pytest.mark.parametrize("std", [0.5, 0.8, 1.0, 1.25, 2.0, 3.7, 12.0])
def test_the_values_have_the_probabilities_of_the_discrete_gaussian(std: float) -> None:
    values = discrete_gaussian(SecureGenerator.seeded(1), MANY, std=std)
    reach = math.ceil(12 * std)
    expected = MANY * mass(std, reach)
    found = np.bincount(values + reach, minlength=2 * reach + 1)
    tested = expected >= 10  # the rest is one cell
    cells = np.append(found[tested], found[~tested].sum())
    ideal = np.append(expected[tested], expected[~tested].sum())
    statistic = float(((cells - ideal) ** 2 / np.maximum(ideal, 1e-9)).sum())
    assert statistic < chi2.isf(1e-6, len(cells) - 1)


@pytest.mark.parametrize("std", [1.0, 7.3, 1e3, 1e6, 1e9])
def test_its_moments(std: float) -> None:
    values = discrete_gaussian(SecureGenerator.seeded(2), MANY, std=std) / std
    error = 5 / math.sqrt(MANY)  # five standard errors, times that of each moment
    assert abs(values.mean()) < error
    assert abs((values**2).mean() - 1) < error * math.sqrt(2)
    assert abs((values**3).mean()) < error * math.sqrt(15)
    assert abs((values**4).mean() - 3) < error * math.sqrt(96)


def test_a_large_deviation_gives_the_continuous_gaussian() -> None:
    """Kolmogorov and Smirnov: a distance that one sample in ten million exceeds (Massart 1990)."""
    values = np.sort(discrete_gaussian(SecureGenerator.seeded(3), MANY, std=1e7)) / 1e7
    ideal, steps = norm.cdf(values), np.arange(MANY + 1) / MANY
    distance = max(np.max(steps[1:] - ideal), np.max(ideal - steps[:-1]))
    assert distance < math.sqrt(math.log(2 / 1e-7) / (2 * MANY))


@settings(deadline=None)
@given(count=st.integers(0, 2000), std=DEVIATIONS, seed=st.integers(0, 99))
def test_whole_numbers_of_the_shape_asked_for_that_repeat_under_a_seed(
    count: int, std: float, seed: int
) -> None:
    values = discrete_gaussian(SecureGenerator.seeded(seed), count, std=std)
    assert values.shape == (count,)
    assert values.dtype == np.int64
    assert np.abs(values).max(initial=0) <= 12 * std
    again = discrete_gaussian(SecureGenerator.seeded(seed), count, std=std)
    assert np.array_equal(values, again)


def test_more_than_a_block_is_drawn_without_a_seam() -> None:
    values = discrete_gaussian(SecureGenerator.seeded(4), 100_000, std=1e9)
    assert len(np.unique(values)) > 99_900


@pytest.mark.parametrize("std", [0.0, 0.49, 1.1e9, -1.0, math.nan, math.inf])
def test_a_deviation_out_of_bounds_is_refused(std: float) -> None:
    with pytest.raises(PlanError, match="std"):
        discrete_gaussian(SecureGenerator.seeded(1), 3, std=std)


@pytest.mark.parametrize(("std", "times"), [(1.25, 11), (1.8, 11), (3.0, 11), (12.0, 40)])
def test_its_delta_is_that_of_continuous_noise_within_six_percent(std: float, times: int) -> None:
    """Counts released several times: the exact delta of sensitivity one, by convolution."""
    reach = math.ceil(14 * std)
    once = mass(std, reach)
    total = once
    for _ in range(times - 1):
        total = np.convolve(total, once)
    sums = np.arange(len(total)) - times * reach
    losses = (times - 2 * sums) / (2 * std * std)
    for epsilon in (1.0, 3.0, 6.0):
        delta = float(np.sum(total * np.maximum(0, -np.expm1(epsilon - losses))))
        ideal = delta_of(math.sqrt(times) / std, epsilon)
        if ideal > 1e-7:
            assert delta == pytest.approx(ideal, rel=0.06)


class TestShares:
    @given(std=st.floats(30, 1e9), shares=st.integers(1, 256))
    def test_variances_add_up(self, std: float, shares: int) -> None:
        share = share_std(std, shares=shares, dimension=10**6)
        assert shares * share**2 == pytest.approx(std**2)

    @pytest.mark.parametrize("shares", [2, 4, 9])
    def test_a_sum_of_shares_has_the_deviation_promised(self, shares: int) -> None:
        share = share_std(20.0, shares=shares, dimension=1)
        total = sum(
            discrete_gaussian(SecureGenerator.seeded(seed), MANY, std=share)
            for seed in range(shares)
        )
        assert np.std(total) == pytest.approx(20.0, rel=5 / math.sqrt(2 * MANY))

    def test_a_sum_of_two_differs_from_one_by_less_than_the_excess_says(self) -> None:
        std = 1.25
        once, ideal = mass(std, 30), mass(std * math.sqrt(2), 60)
        within = np.abs(np.arange(-60, 61)) <= 12
        ratio = np.convolve(once, once)[within] / ideal[within]
        excess = excess_of_sum(std, shares=2)
        assert 0 < np.abs(np.log(ratio)).max() <= excess

    def test_one_share_is_the_whole(self) -> None:
        assert share_std(0.7, shares=1, dimension=10**9) == 0.7

    def test_shares_too_small_are_refused(self) -> None:
        with pytest.raises(PlanError, match=r"std 1\.8 among 4 shares: each has 0\.9"):
            share_std(1.8, shares=4, dimension=1)
        with pytest.raises(PlanError, match="shares 0"):
            share_std(1.8, shares=0, dimension=1)

    @given(shares=st.integers(2, 256), dimension=st.integers(1, 10**9))
    def test_what_is_accepted_has_a_negligible_excess(self, shares: int, dimension: int) -> None:
        share = share_std(2.5 * math.sqrt(shares), shares=shares, dimension=dimension)
        assert excess_of_sum(share, shares=shares) * math.sqrt(dimension) <= MOST_EXCESS
