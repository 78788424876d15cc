"""Curves over all thresholds, and the areas under them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fl.errors import ModelError
from fl.evaluation.histogram import EDGES, ScoreHistogram
from fl.evaluation.operating import share


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


@dataclass(frozen=True, slots=True)
class PrecisionRecallCurve:
    """Points of the precision-recall curve, recall rising; arrays float64, shape (BINS + 1,).

    Attributes:
        recall: share of positives with a score in or above the bin that starts at the threshold.
        precision: share of positives among all such records; 1 where there is none.
        thresholds: as in ``RocCurve``.
    """

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def roc_curve(histogram: ScoreHistogram) -> RocCurve:
    """Returns the ROC curve.

    Raises:
        ModelError: one class is missing, so that the curve is not defined.
    """
    n, p = int(histogram.negatives.sum()), int(histogram.positives.sum())
    if n == 0 or p == 0:
        raise ModelError(f"a ROC curve needs both classes: {n} negatives, {p} positives")
    return RocCurve(
        fpr=_in_highest(histogram.negatives) / n,
        tpr=_in_highest(histogram.positives) / p,
        thresholds=EDGES[::-1],
    )


def precision_recall_curve(histogram: ScoreHistogram) -> PrecisionRecallCurve:
    """Returns the precision-recall curve.

    Raises:
        ModelError: there are no positives, so that the curve is not defined.
    """
    positives = int(histogram.positives.sum())
    if positives == 0:
        raise ModelError("a precision-recall curve needs positives: there are none")
    found, called = _in_highest(histogram.positives), _in_highest(histogram.negatives)
    called = called + found
    precision = np.divide(found, called, out=np.ones(len(found)), where=called > 0)
    return PrecisionRecallCurve(found / positives, precision, EDGES[::-1])


def auc(histogram: ScoreHistogram) -> float | None:
    """Returns the area under the ROC curve, None unless both classes are present.

    It is the Mann-Whitney statistic with ties at half, which equals the trapezoid under the curve
    (Hanley and McNeil 1982), computed in whole numbers and rounded once.
    """
    below, twice_ordered = 0, 0
    for negative, positive in zip(
        histogram.negatives.tolist(), histogram.positives.tolist(), strict=True
    ):
        twice_ordered += positive * (2 * below + negative)
        below += negative
    return share(twice_ordered, 2 * below * int(histogram.positives.sum()))


def average_precision(histogram: ScoreHistogram) -> float | None:
    """Returns the mean precision over the steps of recall, None without positives.

    The sum of (R_k - R_{k-1}) P_k over falling thresholds, without interpolation, which would be
    too hopeful (Davis and Goadrich 2006, section 4).
    """
    if not histogram.positives.any():
        return None
    curve = precision_recall_curve(histogram)
    return float(np.diff(curve.recall) @ curve.precision[1:])


def _in_highest(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Records in the highest 0, 1, … BINS bins."""
    return np.concatenate([[0], np.cumsum(counts[::-1])])
