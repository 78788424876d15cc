"""Whether a model serves everybody: figures of each group, and how far groups lie apart."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fl.evaluation.counts import HISTOGRAM
from fl.evaluation.figures import Evaluation, evaluate
from fl.evaluation.histogram import ScoreHistogram
from fl.evaluation.intervals import Interval, auc_interval
from fl.operating_point import OperatingPoint
from fl.subgroups import Subgroup

LEAST_RECORDS: Final = 30
"""Fewer records than these say nothing of a group."""

LEAST_DEVIATIONS: Final = 5
"""Nor does a number of records, or of a class, below so many deviations of its own noise."""

COMPARED: Final = ("auc", "sensitivity", "specificity")


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """Figures of one group; without ``figures`` it has too few records.

    Attributes:
        label: the group's name.
        records: its records, as the noised counts say.
        figures: those that enough records define; None where the group has too few.
        interval: of the AUC.
    """

    label: str
    records: int
    figures: Evaluation | None = None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class SubgroupFigures:
    """Figures of a subgroup's groups, side by side."""

    name: str
    groups: tuple[GroupFigures, ...]

    def gap(self, figure: str) -> float | None:
        """Returns the largest less the smallest of a figure; None unless two groups have it.

        Noise and sampling widen it: of groups that are served alike it is not zero.
        """
        found = [
            value
            for group in self.groups
            if group.figures is not None and (value := getattr(group.figures, figure)) is not None
        ]
        return max(found) - min(found) if len(found) >= 2 else None


def subgroup_figures(
    subgroup: Subgroup,
    counts: NDArray[np.int64],
    *,
    noise_std: float,
    operating_point: OperatingPoint | None = None,
) -> SubgroupFigures:
    """Computes the figures of each group, at one threshold for all of them.

    A group is shown from 30 records on, and from five deviations of the noise on its number of
    records. A figure of one class, and the AUC, needs five deviations of the noise on that class's.

    Args:
        subgroup: the subgroup.
        counts: noised counts, int64, shape (groups, HISTOGRAM).
        noise_std: standard deviation of the noise on each count.
        operating_point: the threshold at which the whole is evaluated.
    """
    return SubgroupFigures(
        subgroup.name,
        tuple(
            _of_group(label, of_group, noise_std, operating_point)
            for label, of_group in zip(subgroup.labels, counts, strict=True)
        ),
    )


def _of_group(
    label: str, counts: NDArray[np.int64], noise_std: float, point: OperatingPoint | None
) -> GroupFigures:
    histogram = ScoreHistogram.from_noised(counts)
    figures = evaluate(histogram, operating_point=point)
    least = max(LEAST_RECORDS, LEAST_DEVIATIONS * noise_std * math.sqrt(HISTOGRAM))
    if figures.records < least:
        return GroupFigures(label, figures.records)
    of_class = LEAST_DEVIATIONS * noise_std * math.sqrt(HISTOGRAM // 2)
    few_positives = figures.positives < of_class
    few_negatives = figures.records - figures.positives < of_class
    if few_positives:
        figures = replace(figures, auc=None, average_precision=None, sensitivity=None, ppv=None)
    if few_negatives:
        figures = replace(figures, auc=None, specificity=None, npv=None)
    interval = None if figures.auc is None else auc_interval(counts, noise_std=noise_std)
    return GroupFigures(label, figures.records, figures, interval)
