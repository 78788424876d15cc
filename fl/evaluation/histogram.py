"""Counts of scores by class and bin, which hospitals can add up.

    histogram = score_histogram(scores, labels) + score_histogram(other_scores, other_labels)
    ScoreHistogram.from_noised(counts)

A hospital releases 2 × 8 counts with noise on each; the secure sum adds them, and every figure is
computed from the sum, so that nobody sees one hospital's figures. Scores in one bin count as equal:
apart from the noise, the figures are exact for the quantised scores.

Few bins, because noise comes with each; narrower ones near 0 and 1, where the scores of models that
were trained by large steps lie (``docs/evaluation.md`` has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fl.errors import ModelError

EDGES: Final[NDArray[np.float64]] = np.array([0, 0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1])
"""Edges of the bins: float64, shape (BINS + 1,); a bin holds its lower one, the last one 1 too."""
EDGES.flags.writeable = False

BINS: Final = len(EDGES) - 1

MIDDLES: Final[NDArray[np.float64]] = (EDGES[1:] + EDGES[:-1]) / 2
"""What a bin's scores count as where their value matters: float64, shape (BINS,)."""
MIDDLES.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class ScoreHistogram:
    """Records of each class by score; histograms of disjoint records add up.

    Attributes:
        negatives: int64, shape (BINS,): records of the negative class in each bin.
        positives: int64, shape (BINS,): records of the positive class in each bin.
    """

    negatives: NDArray[np.int64]
    positives: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name in ("negatives", "positives"):
            object.__setattr__(self, name, _bins(getattr(self, name), name=name))

    def __add__(self, other: ScoreHistogram) -> ScoreHistogram:
        return ScoreHistogram(self.negatives + other.negatives, self.positives + other.positives)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScoreHistogram):
            return NotImplemented
        return bool(np.array_equal(self.counts(), other.counts()))

    def __hash__(self) -> int:
        return hash(self.counts().tobytes())

    def counts(self) -> NDArray[np.int64]:
        """Returns the negatives, then the positives: int64, shape (2 × BINS,)."""
        return np.concatenate([self.negatives, self.positives])

    @classmethod
    def from_counts(cls, counts: ArrayLike) -> ScoreHistogram:
        """Returns the histogram whose ``counts()`` are given.

        Args:
            counts: whole numbers from 0, shape (2 × BINS,).

        Raises:
            ModelError: another shape, or a value that is no count.
        """
        array = np.asarray(counts)
        if array.shape != (2 * BINS,):
            raise ModelError(f"score counts: shape {array.shape}, expected {(2 * BINS,)}")
        return cls(array[:BINS], array[BINS:])

    @classmethod
    def from_noised(cls, counts: ArrayLike) -> ScoreHistogram:
        """Returns the histogram nearest to noised counts that could be one.

        Of each class, the total stays what it is, if above zero; then the nearest counts from zero
        are those less a constant, and zero where that would be less (Wang and Carreira-Perpiñán
        2013, "Projection onto the probability simplex"), in whole numbers. Counts that no noise has
        made negative stay as they are. This looks at the noised counts alone, so it costs no
        privacy. The AUC comes out low rather than high: noise blurs what separates the classes.

        Args:
            counts: whole numbers, shape (2 × BINS,), of any sign.

        Raises:
            ModelError: another shape, or a value that is no whole number.
        """
        whole = noised(counts)
        return cls(_nearest(whole[:BINS]), _nearest(whole[BINS:]))

    @classmethod
    def empty(cls) -> ScoreHistogram:
        """Returns the histogram of no records, the neutral element of the sum."""
        return cls.from_counts(np.zeros(2 * BINS, np.int64))


def noised(counts: ArrayLike) -> NDArray[np.int64]:
    """Returns noised counts of one histogram as int64, shape (2 × BINS,).

    Raises:
        ModelError: another shape, or a value that is no whole number.
    """
    array = np.asarray(counts)
    if array.shape != (2 * BINS,):
        raise ModelError(f"score counts: shape {array.shape}, expected {(2 * BINS,)}")
    if not np.all((np.abs(array) < 2**53) & (array == np.floor(array))):
        raise ModelError("score counts: every noised count must be a whole number")
    return array.astype(np.int64)


def bins_of(scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """Returns the bin of each score, 0 to BINS - 1."""
    return np.searchsorted(EDGES[1:-1], scores, side="right")


def score_histogram(scores: ArrayLike, labels: ArrayLike) -> ScoreHistogram:
    """Counts scores by class and bin.

    Args:
        scores: probabilities of the positive class, shape (n,), from 0 to 1; n may be 0.
        labels: 0 or 1, shape (n,).

    Raises:
        ModelError: shapes that differ, a score outside 0 to 1 (a diverged model scores NaN),
            or a label other than 0 and 1. The message counts records and shows no value.
    """
    s, y = checked_scores(scores, labels)
    bins = bins_of(s)
    return ScoreHistogram(
        np.bincount(bins[y == 0], minlength=BINS), np.bincount(bins[y == 1], minlength=BINS)
    )


def checked_scores(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns scores and labels as float64, shape (n,), if they are such.

    Raises:
        ModelError: see ``score_histogram``.
    """
    s, y = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    if s.ndim != 1 or s.shape != y.shape:
        raise ModelError(
            f"scores of shape {s.shape} and labels of shape {y.shape}: both must be (n,)"
        )
    if outside := int(np.count_nonzero(~((s >= 0) & (s <= 1)))):
        raise ModelError(f"{outside} of {s.size} scores are not numbers from 0 to 1")
    if unknown := int(np.count_nonzero((y != 0) & (y != 1))):
        raise ModelError(f"{unknown} of {y.size} labels are neither 0 nor 1")
    return s, y


def _nearest(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the nearest whole numbers from zero with the same total, or all zeros."""
    total = max(int(counts.sum()), 0)
    falling = np.sort(counts)[::-1]
    # If the k largest stay, each gives up as much; take the most that stay above zero.
    surplus = np.cumsum(falling) - total
    stay = int(np.count_nonzero(falling * np.arange(1, BINS + 1) > surplus))
    if total == 0 or stay == 0:
        return np.zeros(BINS, np.int64)
    order = np.argsort(-counts, kind="stable")[:stay]
    each, rest = divmod(int(surplus[stay - 1]), stay)
    nearest = np.zeros(BINS, np.int64)
    nearest[order] = counts[order] - each
    nearest[order[:rest]] -= 1
    return nearest


def _bins(values: ArrayLike, *, name: str) -> NDArray[np.int64]:
    """Returns a read-only int64 copy, or says what is wrong."""
    array = np.asarray(values)
    if array.shape != (BINS,):
        raise ModelError(f"{name}: shape {array.shape}, expected {(BINS,)}")
    # From float64's 2^53 on, whole numbers have gaps; no hospital comes near that many records.
    if not np.all((array >= 0) & (array < 2**53) & (array == np.floor(array))):
        raise ModelError(f"{name}: every count must be a whole number from 0")
    copy = array.astype(np.int64)
    copy.flags.writeable = False
    return copy
