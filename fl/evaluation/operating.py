"""Figures of a model that says yes or no: at a threshold, or at a sensitivity it must have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fl.evaluation.histogram import EDGES, ScoreHistogram
from fl.operating_point import OperatingPoint


@dataclass(frozen=True, slots=True)
class Operating:
    """Figures at an operating point; ``None`` where the records do not define one.

    With true and false positives and negatives TP, FP, TN, FN:

    Attributes:
        threshold: least score called positive, an edge of the bins; None when a least sensitivity
            is asked for and there are no positives.
        accuracy: (TP + TN) / all.
        sensitivity: TP / (TP + FN).
        specificity: TN / (TN + FP).
        ppv: positive predictive value, TP / (TP + FP), at the evaluated records' prevalence.
        npv: negative predictive value, TN / (TN + FN), at the same.
    """

    threshold: float | None = None
    accuracy: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    ppv: float | None = None
    npv: float | None = None


def operating(histogram: ScoreHistogram, point: OperatingPoint) -> Operating:
    """Returns the figures at an operating point.

    Bins are not cut: a threshold between two edges acts as the next edge above it.
    """
    first = _first_bin(histogram, point)
    if first is None:
        return Operating()
    cleared, false_alarms = (int(part.sum()) for part in np.split(histogram.negatives, [first]))
    missed, found = (int(part.sum()) for part in np.split(histogram.positives, [first]))
    return Operating(
        threshold=float(EDGES[first]),
        accuracy=share(cleared + found, cleared + false_alarms + missed + found),
        sensitivity=share(found, missed + found),
        specificity=share(cleared, cleared + false_alarms),
        ppv=share(found, found + false_alarms),
        npv=share(cleared, cleared + missed),
    )


def share(part: int, whole: int) -> float | None:
    """Returns a part of a whole, None of nothing."""
    return part / whole if whole else None


def _first_bin(histogram: ScoreHistogram, point: OperatingPoint) -> int | None:
    """The lowest bin that is called positive; BINS when none is."""
    if point.threshold is not None:
        return int(np.searchsorted(EDGES, point.threshold))
    positives = int(histogram.positives.sum())
    if positives == 0:
        return None
    above = np.concatenate([np.cumsum(histogram.positives[::-1])[::-1], [0]])
    return int(np.flatnonzero(above / positives >= (point.least_sensitivity or 0))[-1])
