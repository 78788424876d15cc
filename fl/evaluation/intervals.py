"""How far the AUC may lie from what noised counts say.

    auc_interval(noised_counts, noise_std=6)  # Interval(low=0.71, high=0.93)

Two things move it: which records were held out, and the noise on each count, whose deviation is
public. The interval holds every AUC that a test at 5 % does not reject, given both.

1. Of negatives n_i and positives p_j by bin, and an AUC of a, the sum
   T(a) = Σ n_i p_j (K_ij - a), with K_ij = 1, 1/2, 0 for i below, in, above j, has mean zero. It
   is computed from the noised counts as they are, whose noise has mean zero, so it is unbiased,
   and nothing is divided by a noised total (Fieller 1954).
2. Its variance by sampling is (N P)² times that of Hanley and McNeil 1982 at the AUC of a, in the
   form of Newcombe 2006 (part 2, method 5), which does not vanish when the classes are apart.
3. Its variance by noise of deviation s is s² (Σ_i (Σ_j p_j (K_ij - a))² + Σ_j (Σ_i n_i (K_ij -
   a))²) + s⁴ Σ (K_ij - a)². Where true counts are wanted, here and in 2, the nearest histogram
   stands in.
4. Kept is each a with T(a)² ≤ 1.96² (both variances). Noise so large that nothing is rejected
   gives 0 to 1, and that is then the truth.

The AUC meant is that of the binned scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fl.errors import ModelError
from fl.evaluation.curves import auc
from fl.evaluation.histogram import BINS, ScoreHistogram, noised

CONFIDENCE: Final = 0.95

_QUANTILE: Final = 1.959964
_STEPS: Final = 1000

_ORDERED: Final[NDArray[np.float64]] = np.triu(np.ones((BINS, BINS)), 1) + np.eye(BINS) / 2
"""K: float64, shape (negatives' bin, positives' bin)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a figure lies with 95 % confidence; both ends belong to it."""

    low: float
    high: float


def auc_interval(counts: ArrayLike, *, noise_std: float) -> Interval | None:
    """Returns the AUC's 95 % confidence interval; None where the AUC itself is not defined.

    It always holds the AUC of ``ScoreHistogram.from_noised(counts)``.

    Args:
        counts: noised counts, negatives, then positives: whole numbers, shape (2 × BINS,).
        noise_std: standard deviation of the noise on each count of the sum, from 0.

    Raises:
        ModelError: counts that are none, or a deviation that is none.
    """
    if not 0 <= noise_std < np.inf:
        raise ModelError(f"noise_std {noise_std}: must be a finite number from 0")
    whole = noised(counts)
    histogram = ScoreHistogram.from_noised(whole)
    found = auc(histogram)
    if found is None:
        return None
    raw_negatives, raw_positives = whole[:BINS].astype(float), whole[BINS:].astype(float)
    areas = np.linspace(0, 1, _STEPS + 1)
    ordered = _ORDERED - areas[:, np.newaxis, np.newaxis]
    statistic = ordered @ raw_positives @ raw_negatives
    variance = _by_sampling(histogram, areas) + _by_noise(histogram, ordered, noise_std)
    # What is exactly at the bound must not fall to rounding.
    kept = areas[statistic**2 <= _QUANTILE**2 * variance * (1 + 1e-9) + 1e-9]
    return Interval(float(kept.min(initial=found)), float(kept.max(initial=found)))


def _by_sampling(histogram: ScoreHistogram, areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance of T by sampling at each AUC: float64, shape (areas,)."""
    n, p = float(histogram.negatives.sum()), float(histogram.positives.sum())
    paired = max((n + p) / 2 - 1, 0.0)
    spread: NDArray[np.float64] = areas * (1 - areas)
    return n * p * spread * (1 + paired * ((1 - areas) / (2 - areas) + areas / (1 + areas)))


def _by_noise(
    histogram: ScoreHistogram, ordered: NDArray[np.float64], noise_std: float
) -> NDArray[np.float64]:
    """Variance of T by noise at each AUC: float64, shape (areas,)."""
    of_negatives = ordered @ histogram.positives.astype(float)
    of_positives = histogram.negatives.astype(float) @ ordered
    first = np.sum(of_negatives**2, axis=1) + np.sum(of_positives**2, axis=1)
    second = np.sum(ordered**2, axis=(1, 2))
    result: NDArray[np.float64] = noise_std**2 * first + noise_std**4 * second
    return result
