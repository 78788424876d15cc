"""Operating points: at a threshold, or where a sensitivity is reached."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fl.evaluation import BINS, EDGES, ScoreHistogram, evaluate, score_histogram
from fl.operating_point import OperatingPoint

COUNTS = st.lists(st.integers(0, 9), min_size=2 * BINS, max_size=2 * BINS)


def at(threshold: float) -> OperatingPoint:
    return OperatingPoint(threshold=threshold)


def test_a_threshold_moves_the_operating_point() -> None:
    histogram = score_histogram([0.1, 0.3, 0.4, 0.9], [0, 0, 1, 1])
    assert evaluate(histogram, operating_point=at(0)).specificity == 0
    assert evaluate(histogram, operating_point=at(0.35)).specificity == 1
    nobody = evaluate(histogram, operating_point=at(1))
    assert (nobody.sensitivity, nobody.ppv, nobody.npv) == (0, None, 0.5)
    # Between two edges, the next edge above counts.
    assert evaluate(histogram, operating_point=at(0.2501)).threshold == 0.35
    assert evaluate(histogram) == evaluate(histogram, operating_point=at(0.5))


@given(COUNTS.filter(lambda counts: sum(counts[BINS:]) > 0), st.floats(0, 1))
def test_a_least_sensitivity_takes_the_highest_threshold_that_reaches_it(
    counts: list[int], least: float
) -> None:
    histogram = ScoreHistogram.from_counts(counts)
    figures = evaluate(histogram, operating_point=OperatingPoint(least_sensitivity=least))
    assert figures.sensitivity is not None
    assert figures.sensitivity >= least
    assert figures.threshold in EDGES
    higher = [edge for edge in EDGES if edge > figures.threshold]
    for edge in higher:
        beyond = evaluate(histogram, operating_point=at(edge)).sensitivity
        assert beyond is not None
        assert beyond < least


def test_without_positives_no_threshold_reaches_a_sensitivity() -> None:
    histogram = score_histogram([0.1, 0.9], [0, 0])
    figures = evaluate(histogram, operating_point=OperatingPoint(least_sensitivity=0.9))
    assert (figures.threshold, figures.accuracy, figures.specificity) == (None, None, None)
    assert figures.brier is not None


def test_rarer_disease_lowers_the_positive_predictive_value_alone() -> None:
    common = np.zeros(2 * BINS, np.int64)
    common[[0, BINS - 1, BINS, 2 * BINS - 1]] = [90, 10, 10, 90]
    rare = common.copy()
    rare[:BINS] *= 10
    one, other = (evaluate(ScoreHistogram.from_counts(counts)) for counts in (common, rare))
    assert (one.sensitivity, one.specificity) == (other.sensitivity, other.specificity)
    assert (one.ppv, other.ppv) == (0.9, pytest.approx(90 / 190))


def test_a_half_is_the_threshold_when_nothing_is_named() -> None:
    assert OperatingPoint() == at(0.5) == OperatingPoint(threshold=None)
    assert OperatingPoint(least_sensitivity=0.95).threshold is None
    for point in (OperatingPoint(), OperatingPoint(least_sensitivity=0.95)):
        assert OperatingPoint.model_validate_json(point.model_dump_json()) == point


@pytest.mark.parametrize(
    "values",
    [
        {"threshold": 0.5, "least_sensitivity": 0.9},
        {"threshold": 1.5},
        {"least_sensitivity": -0.1},
        {"threshold": float("nan")},
        {"sensitivity": 0.9},
    ],
)
def test_what_is_no_operating_point_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        OperatingPoint(**values)
