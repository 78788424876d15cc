"""All figures of a model, out of one histogram.

evaluate(histogram, operating_point=OperatingPoint(least_sensitivity=0.95)).specificity
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fl.evaluation.calibration import brier_score, expected_calibration_error
from fl.evaluation.curves import auc, average_precision
from fl.evaluation.histogram import ScoreHistogram
from fl.evaluation.operating import operating
from fl.operating_point import OperatingPoint

FIGURES: Final = (
    "auc",
    "average_precision",
    "accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "ece",
    "brier",
)
"""Names of the figures, in the order in which they are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Figures of a model; ``None`` where the records do not define one.

    Attributes:
        auc: area under the ROC curve, ties at half; None unless both classes are present.
        average_precision: area under the precision-recall curve, without interpolation.
        accuracy: share of records on the right side of the threshold.
        sensitivity: share of positives found.
        specificity: share of negatives cleared.
        ppv: share of positives among those called positive.
        npv: share of negatives among those called negative.
        ece: expected calibration error.
        brier: mean squared difference of score and label.
        threshold: least score called positive.
        records: records evaluated.
        positives: how many of them are of the positive class.
    """

    auc: float | None = None
    average_precision: float | None = None
    accuracy: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    ppv: float | None = None
    npv: float | None = None
    ece: float | None = None
    brier: float | None = None
    threshold: float | None = None
    records: int
    positives: int

    def metrics(self) -> dict[str, float]:
        """Returns the figures that are defined, by name."""
        figures = {name: getattr(self, name) for name in FIGURES}
        return {name: value for name, value in figures.items() if value is not None}


def evaluate(
    histogram: ScoreHistogram, *, operating_point: OperatingPoint | None = None
) -> Evaluation:
    """Computes a model's figures.

    Args:
        histogram: the summed counts.
        operating_point: where the model says yes; from 0.5 on when not given.
    """
    at = operating(histogram, operating_point or OperatingPoint())
    return Evaluation(
        auc=auc(histogram),
        average_precision=average_precision(histogram),
        accuracy=at.accuracy,
        sensitivity=at.sensitivity,
        specificity=at.specificity,
        ppv=at.ppv,
        npv=at.npv,
        ece=expected_calibration_error(histogram),
        brier=brier_score(histogram),
        threshold=at.threshold,
        records=int(histogram.counts().sum()),
        positives=int(histogram.positives.sum()),
    )
