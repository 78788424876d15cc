"""Calibration out of bins."""

from __future__ import annotations

import numpy as np
import pytest

from fl.evaluation import BINS, MIDDLES, ScoreHistogram, score_histogram
from fl.evaluation.calibration import brier_score, expected_calibration_error, reliability


def shares(observed: np.ndarray, records: int = 1000) -> ScoreHistogram:
    """A histogram with so many records a bin, of which a share is positive."""
    positives = np.rint(observed * records).astype(np.int64)
    return ScoreHistogram(records - positives, positives)


def test_scores_that_come_true_have_no_error() -> None:
    calibrated = shares(MIDDLES)
    assert expected_calibration_error(calibrated) == pytest.approx(0, abs=1e-3)
    assert brier_score(calibrated) == pytest.approx(np.mean(MIDDLES * (1 - MIDDLES)), abs=1e-3)


def test_the_error_is_how_far_shares_and_scores_lie_apart() -> None:
    off = shares(np.clip(MIDDLES + 0.1, 0, 1))
    expected = np.mean(np.clip(MIDDLES + 0.1, 0, 1) - MIDDLES)
    assert expected_calibration_error(off) == pytest.approx(expected, abs=1e-3)
    # A bin counts by its records: the same one off, with few records, hardly matters.
    counts = np.concatenate([shares(MIDDLES).negatives, shares(MIDDLES).positives])
    counts[BINS - 1] += 10
    assert expected_calibration_error(ScoreHistogram.from_counts(counts)) < 0.002


def test_an_overconfident_model_is_found_out() -> None:
    """Scores of 0 and 1 that are right four times in five."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 5000)
    right = generator.random(5000) < 0.8
    histogram = score_histogram(np.where(right, labels, 1 - labels).astype(float), labels)
    assert expected_calibration_error(histogram) == pytest.approx(0.2 - MIDDLES[0], abs=0.02)


def test_an_empty_bin_has_no_share_and_no_records_no_figures() -> None:
    curve = reliability(score_histogram([0.99], [1]))
    assert curve.observed[-1] == 1
    assert np.isnan(curve.observed[:-1]).all()
    assert curve.records.tolist() == [0] * (BINS - 1) + [1]
    assert expected_calibration_error(ScoreHistogram.empty()) is None
    assert brier_score(ScoreHistogram.empty()) is None
