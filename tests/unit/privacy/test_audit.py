"""The audit's statistics on releases whose privacy is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from privacy.audit import (
    Neighbours,
    Scores,
    _rate_bound,
    dependence_p_value,
    epsilon_lower_bound,
    mu_lower_bound,
    scores_of,
    std_interval,
)
from privacy.gaussian_dp import epsilon_of

DELTA = 0.1


def gaussians(mu: float, *, runs: int = 2000, seed: int = 0) -> Scores:
    """Scores of a release that is exactly mu-GDP."""
    random = np.random.default_rng(seed)
    return Scores(random.normal(0, 1, runs), random.normal(mu, 1, runs))


class TestBounds:
    @settings(max_examples=50, deadline=None)
    @given(mu=st.floats(0, 4), seed=st.integers(0, 2**32 - 1))
    def test_they_stay_below_what_is_true(self, mu: float, seed: int) -> None:
        """At a confidence at which none of all examples ever run is expected to fail."""
        scores = gaussians(mu, runs=500, seed=seed)
        assert mu_lower_bound(scores, confidence=1 - 1e-9) <= mu
        assert epsilon_lower_bound(scores, delta=DELTA, confidence=1 - 1e-9) <= epsilon_of(
            mu, delta=DELTA
        )

    @pytest.mark.parametrize("mu", [1.0, 2.0, 3.0])
    def test_they_show_most_of_it(self, mu: float) -> None:
        scores = gaussians(mu, runs=10_000)
        assert mu_lower_bound(scores) > 0.85 * mu
        assert epsilon_lower_bound(scores, delta=DELTA) > 0.6 * epsilon_of(mu, delta=DELTA)

    def test_at_half_confidence_they_fail_no_more_often_than_said(self) -> None:
        """Judged on the runs that chose the threshold, most of these bounds would be too high."""
        audits = [gaussians(1.0, runs=80, seed=seed) for seed in range(200)]
        too_high = sum(mu_lower_bound(scores, confidence=0.5) > 1 for scores in audits)
        assert too_high <= binom.isf(1e-6, len(audits), 0.5)

    def test_the_more_confidence_the_less_is_shown(self) -> None:
        bounds = [mu_lower_bound(gaussians(2.0), confidence=c) for c in (0.9, 0.999, 1 - 1e-9)]
        assert bounds == sorted(bounds, reverse=True)

    def test_equal_scores_show_nothing(self) -> None:
        same = Scores(np.zeros(100), np.zeros(100))
        assert mu_lower_bound(same) == epsilon_lower_bound(same, delta=0) == 0

    def test_scores_that_never_overlap_show_as_much_as_their_number_allows(self) -> None:
        apart = [Scores(np.zeros(runs), np.ones(runs)) for runs in (100, 1000, 10_000)]
        assert [round(mu_lower_bound(scores), 1) for scores in apart] == [2.6, 4.6, 6.2]
        assert epsilon_lower_bound(apart[1], delta=0) == pytest.approx(
            math.log((1 - 1.01e-2) / 1.01e-2), abs=0.01
        )

    @pytest.mark.parametrize("sign", [1, -1])
    def test_a_canary_may_show_below_or_above_and_at_infinity(self, sign: float) -> None:
        apart = Scores(np.zeros(1000), np.full(1000, sign * np.inf))
        assert mu_lower_bound(apart) > 4

    def test_a_point_mass_shows_an_epsilon_without_an_end(self) -> None:
        """Without the canary the score is 0 for certain, as where an empty batch has no noise."""
        random = np.random.default_rng(0)
        present = random.random(4000) < 0.5
        scores = Scores(np.zeros(4000), np.where(present, random.normal(1, 0.5, 4000), 0.0))
        assert epsilon_lower_bound(scores, delta=1e-5) > 5

    def test_randomised_response_is_bounded_by_its_epsilon(self) -> None:
        random, epsilon = np.random.default_rng(0), 1.0
        lie = random.random((2, 20_000)) < 1 / (1 + math.exp(epsilon))
        scores = Scores(lie[0].astype(float), 1.0 - lie[1])
        assert 0.9 * epsilon < epsilon_lower_bound(scores, delta=0) <= epsilon


@given(n=st.integers(1, 500), data=st.data())
def test_a_rate_is_bounded_where_so_few_would_be_as_rare_as_said(
    n: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, n - 1))
    bound = float(_rate_bound(np.array([count]), n, 1e-3)[0])
    assert binom.cdf(count, n, bound) == pytest.approx(1e-3, rel=1e-6)
    assert _rate_bound(np.array([n]), n, 1e-3)[0] == 1


class TestRuns:
    def test_each_has_a_stream_of_its_own(self) -> None:
        scores = scores_of(Neighbours(without=float, with_canary=float), runs=40)
        assert sorted([*scores.without, *scores.with_canary]) == list(range(80))

    def test_too_few_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"with_canary: scores of shape \(39,\)"):
            Scores(np.zeros(40), np.zeros(39))

    def test_a_score_that_is_no_number_is_refused(self) -> None:
        with pytest.raises(ValueError, match="without: 1 scores are no number"):
            Scores(np.array([np.nan, *np.zeros(39)]), np.zeros(40))

    def test_values_out_of_their_bounds_are_refused(self) -> None:
        with pytest.raises(ValueError, match="delta 1"):
            epsilon_lower_bound(gaussians(1.0), delta=1)
        with pytest.raises(ValueError, match="confidence 1"):
            mu_lower_bound(gaussians(1.0), confidence=1)


class TestNoise:
    @settings(max_examples=50, deadline=None)
    @given(std=st.floats(0.01, 100), seed=st.integers(0, 2**32 - 1))
    def test_the_interval_holds_the_deviation(self, std: float, seed: int) -> None:
        noise = np.random.default_rng(seed).normal(0, std, (50, 20))
        low, high = std_interval(noise, confidence=1 - 1e-9)
        assert low <= std <= high < 1.4 * low

    def test_independent_series_look_independent_as_often_as_said(self) -> None:
        random = np.random.default_rng(0)
        p_values = [dependence_p_value(random.normal(size=(50, 4))) for _ in range(500)]
        assert sum(p < 0.1 for p in p_values) <= binom.isf(1e-6, 500, 0.1)

    def test_a_weak_correlation_among_many_series_is_found(self) -> None:
        series = np.random.default_rng(0).normal(size=(2000, 6))
        series[:, 4] += 0.2 * series[:, 1]
        assert dependence_p_value(series) < 1e-6

    @pytest.mark.parametrize("factor", [1.0, -2.0])
    def test_series_that_repeat_cannot_be_chance(self, factor: float) -> None:
        once = np.random.default_rng(0).normal(size=100)
        assert dependence_p_value(np.stack([once, factor * once], axis=1)) < 1e-100

    def test_a_series_without_noise_cannot_be_chance(self) -> None:
        assert dependence_p_value(np.stack([np.arange(9.0), np.ones(9)], axis=1)) == 0

    @pytest.mark.parametrize("shape", [(2, 2), (9, 1)])
    def test_too_little_to_compare_is_refused(self, shape: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match="at least"):
            dependence_p_value(np.zeros(shape))
