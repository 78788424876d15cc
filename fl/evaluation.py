"""How good a model is, from counts of scores that hospitals can add up.

    histogram = score_histogram(scores, labels) + score_histogram(other_scores, other_labels)
    evaluate(histogram).auc
    evaluate(ScoreHistogram.from_noised(counts)).auc

A hospital releases 2 × 10 counts with noise on each; the secure sum adds them, and every figure is
computed from the sum, so that nobody sees one hospital's figures. Scores in one bin count as equal:
apart from the noise, the figures are exact for the quantised scores.

Ten bins, because noise comes with each: with a few hundred held-out rows more of them cost more
than they tell (``docs/noise.md`` has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fl.errors import ModelError

BINS: Final = 10
"""Bins of equal width over scores from 0 to 1; the last one holds 1 itself."""

EDGES: Final[NDArray[np.float64]] = np.arange(BINS + 1) / BINS
"""Their edges: float64, shape (BINS + 1,); a bin holds its lower one."""


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
        array = np.asarray(counts)
        if array.shape != (2 * BINS,):
            raise ModelError(f"score counts: shape {array.shape}, expected {(2 * BINS,)}")
        if not np.all((np.abs(array) < 2**53) & (array == np.floor(array))):
            raise ModelError("score counts: every noised count must be a whole number")
        whole = array.astype(np.int64)
        return cls(_nearest(whole[:BINS]), _nearest(whole[BINS:]))

    @classmethod
    def empty(cls) -> ScoreHistogram:
        """Returns the histogram of no records, the neutral element of the sum."""
        return cls.from_counts(np.zeros(2 * BINS, np.int64))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of a model; ``None`` where the records do not define one.

    Attributes:
        auc: area under the ROC curve, ties at half; None unless both classes are present.
        accuracy: share of records on the right side of the threshold; None without records.
        sensitivity: share of positives found; None without positives.
        specificity: share of negatives cleared; None without negatives.
        records: records evaluated.
        positives: how many of them are of the positive class.
    """

    auc: float | None
    accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    records: int
    positives: int

    def metrics(self) -> dict[str, float]:
        """Returns the figures that are defined, by name."""
        figures = {
            "auc": self.auc,
            "accuracy": self.accuracy,
            "sensitivity": self.sensitivity,
            "specificity": self.specificity,
        }
        return {name: value for name, value in figures.items() if value is not None}


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Points of the ROC curve from (0, 0) to (1, 1); all arrays float64, shape (BINS + 1,).

    Attributes:
        fpr: share of negatives with a score in or above the bin that starts at the threshold.
        tpr: the same share of positives.
        thresholds: lower edges of the bins, falling; the first, 1.0, calls nobody positive.
    """

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def score_histogram(scores: ArrayLike, labels: ArrayLike) -> ScoreHistogram:
    """Counts scores by class and bin.

    Args:
        scores: probabilities of the positive class, shape (n,), from 0 to 1; n may be 0.
        labels: 0 or 1, shape (n,).

    Raises:
        ModelError: shapes that differ, a score outside 0 to 1 (a diverged model scores NaN),
            or a label other than 0 and 1. The message counts records and shows no value.
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
    bins = np.searchsorted(EDGES[1:-1], s, side="right")
    return ScoreHistogram(
        np.bincount(bins[y == 0], minlength=BINS), np.bincount(bins[y == 1], minlength=BINS)
    )


def evaluate(histogram: ScoreHistogram, *, threshold: float = 0.5) -> Evaluation:
    """Computes a model's figures.

    The AUC is the Mann-Whitney statistic with ties at half, which equals the trapezoid under the
    ROC curve (Hanley and McNeil 1982); it is computed in whole numbers and rounded once.

    Args:
        histogram: the summed counts.
        threshold: least score called positive, from 0 to 1; bins are not cut, so a threshold
            between two edges acts as the next edge above it.

    Raises:
        ModelError: a threshold outside 0 to 1.
    """
    if not 0 <= threshold <= 1:
        raise ModelError(f"threshold {threshold} lies outside 0 to 1")
    negatives = [int(n) for n in histogram.negatives]
    positives = [int(p) for p in histogram.positives]
    n, p = sum(negatives), sum(positives)
    first = int(np.searchsorted(EDGES, threshold))
    cleared, found = sum(negatives[:first]), sum(positives[first:])
    below, twice_ordered = 0, 0
    for in_bin, positive in zip(negatives, positives, strict=True):
        twice_ordered += positive * (2 * below + in_bin)
        below += in_bin
    return Evaluation(
        auc=_share(twice_ordered, 2 * n * p),
        accuracy=_share(cleared + found, n + p),
        sensitivity=_share(found, p),
        specificity=_share(cleared, n),
        records=n + p,
        positives=p,
    )


def roc_curve(histogram: ScoreHistogram) -> RocCurve:
    """Returns the ROC curve.

    Raises:
        ModelError: one class is missing, so that the curve is not defined.
    """
    n, p = int(histogram.negatives.sum()), int(histogram.positives.sum())
    if n == 0 or p == 0:
        raise ModelError(f"a ROC curve needs both classes: {n} negatives, {p} positives")
    return RocCurve(
        fpr=_share_above(histogram.negatives, n),
        tpr=_share_above(histogram.positives, p),
        thresholds=EDGES[::-1],
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _share_above(counts: NDArray[np.int64], total: int) -> NDArray[np.float64]:
    """Shares in the highest 0, 1, … BINS bins."""
    return np.concatenate([[0], np.cumsum(counts[::-1])]) / total


def _nearest(noised: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the nearest whole numbers from zero with the same total, or all zeros."""
    total = max(int(noised.sum()), 0)
    falling = np.sort(noised)[::-1]
    # If the k largest stay, each gives up as much; take the most that stay above zero.
    surplus = np.cumsum(falling) - total
    stay = int(np.count_nonzero(falling * np.arange(1, BINS + 1) > surplus))
    if total == 0 or stay == 0:
        return np.zeros(BINS, np.int64)
    order = np.argsort(-noised, kind="stable")[:stay]
    each, rest = divmod(int(surplus[stay - 1]), stay)
    nearest = np.zeros(BINS, np.int64)
    nearest[order] = noised[order] - each
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
