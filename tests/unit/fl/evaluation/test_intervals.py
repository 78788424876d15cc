"""The AUC's interval: it holds the truth as often as it says, whatever the noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.errors import ModelError
from fl.evaluation import BINS, ScoreHistogram, auc_interval, evaluate

Population = Callable[[float, float], Any]
NOISED = st.lists(st.integers(-40, 80), min_size=2 * BINS, max_size=2 * BINS)


@pytest.mark.parametrize("noise_std", [0, 3, 6, 12])
@pytest.mark.parametrize(
    ("distance", "scale", "rows"), [(1.2, 1, 150), (2.3, 4, 150), (2.3, 2, 600), (1.2, 4, 60)]
)
def test_it_holds_the_truth_in_95_of_100(
    population: Population, distance: float, scale: float, rows: int, noise_std: float
) -> None:
    """Of 200 draws 190 are expected; 180 is more than three deviations below."""
    drawn_from, generator = population(distance, scale), np.random.default_rng(7)
    intervals = [
        auc_interval(
            drawn_from.draw(rows, noise_std=noise_std, generator=generator), noise_std=noise_std
        )
        for _ in range(200)
    ]
    defined = [interval for interval in intervals if interval is not None]
    held = [interval.low - 1e-3 <= drawn_from.auc <= interval.high + 1e-3 for interval in defined]
    assert len(defined) > 60
    assert np.mean(held) >= 0.9


def test_rows_narrow_it_and_noise_widens_it(population: Population) -> None:
    drawn_from = population(1.5, 1)

    def width(rows: int, noise_std: float) -> float:
        generator = np.random.default_rng(3)
        found = [
            auc_interval(
                drawn_from.draw(rows, noise_std=noise_std, generator=generator),
                noise_std=noise_std,
            )
            for _ in range(20)
        ]
        return float(np.mean([i.high - i.low for i in found if i is not None]))

    assert width(150, 0) > 1.7 * width(600, 0)
    assert width(600, 0) < width(600, 6) < width(600, 12)
    assert width(600, 6) < 0.2
    assert width(20, 30) > 0.9  # noise alone: nothing is known, and that is what it says


@given(NOISED, st.floats(0, 30))
@settings(max_examples=60, deadline=None)
def test_it_holds_the_auc_that_is_shown(counts: list[int], noise_std: float) -> None:
    interval = auc_interval(counts, noise_std=noise_std)
    auc = evaluate(ScoreHistogram.from_noised(counts)).auc
    assert (interval is None) == (auc is None)
    if interval is not None and auc is not None:
        assert 0 <= interval.low <= auc <= interval.high <= 1


def test_classes_that_are_apart_still_have_an_interval(separable: ScoreHistogram) -> None:
    interval = auc_interval(separable.counts(), noise_std=0)
    assert interval is not None
    assert interval.high == 1
    assert 0.9 < interval.low < 0.99


@pytest.mark.parametrize("noise_std", [-1.0, float("nan"), float("inf")])
def test_a_deviation_that_is_none_is_refused(noise_std: float) -> None:
    with pytest.raises(ModelError, match="noise_std"):
        auc_interval(np.ones(2 * BINS, np.int64), noise_std=noise_std)


@pytest.mark.parametrize("counts", [np.zeros(BINS), np.full(2 * BINS, 0.5)])
def test_counts_that_are_none_are_refused(counts: np.ndarray) -> None:
    with pytest.raises(ModelError, match="score counts"):
        auc_interval(counts, noise_std=1)
