"""Whether a score of 0.8 means eight in ten: reliability, expected calibration error, Brier score.

A bin's scores count as its middle; no figure here is finer than that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fl.evaluation.histogram import MIDDLES, ScoreHistogram


@dataclass(frozen=True, slots=True)
class Reliability:
    """The reliability curve, one point a bin.

    Attributes:
        predicted: float64, shape (BINS,): the bins' middles.
        observed: float64, shape (BINS,): share of positives in each bin; NaN in an empty one.
        records: int64, shape (BINS,): records in each bin.
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    records: NDArray[np.int64]


def reliability(histogram: ScoreHistogram) -> Reliability:
    """Returns the reliability curve."""
    records = histogram.negatives + histogram.positives
    nothing = np.full(len(records), np.nan)
    observed = np.divide(histogram.positives, records, out=nothing, where=records > 0)
    return Reliability(MIDDLES, observed, records)


def expected_calibration_error(histogram: ScoreHistogram) -> float | None:
    """Returns the mean of |observed - predicted| over records, None without any.

    Naeini, Cooper and Hauskrecht 2015, section 3, on these bins. Sampling and noise only ever
    raise it: a calibrated model has more than 0 on few records.
    """
    curve = reliability(histogram)
    filled = curve.records > 0
    if not filled.any():
        return None
    gaps = np.abs(curve.observed[filled] - curve.predicted[filled])
    return float(np.average(gaps, weights=curve.records[filled]))


def brier_score(histogram: ScoreHistogram) -> float | None:
    """Returns the mean of (score - label)² over records (Brier 1950), None without any."""
    records = int(histogram.counts().sum())
    if not records:
        return None
    squares = histogram.negatives @ MIDDLES**2 + histogram.positives @ (1 - MIDDLES) ** 2
    return float(squares / records)
