"""Evaluating a round: figures of the weights it started from, out of the summed histograms."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE

from fl.evaluation import Evaluation, RocCurve, ScoreHistogram, roc_curve
from fl.evaluation import evaluate as evaluate_histogram
from tasks.gather import GatheredSum


@dataclass(frozen=True, slots=True)
class RoundEvaluation:
    """What a round measured on all hospitals' held-out rows together."""

    figures: Evaluation
    roc: RocCurve | None

    def metrics(self) -> dict[str, float]:
        """Returns the figures that are defined, by name, for MLflow and the database."""
        named = {
            "auc": self.figures.auc,
            "accuracy": self.figures.accuracy,
            "sensitivity": self.figures.sensitivity,
            "specificity": self.figures.specificity,
        }
        return {name: value for name, value in named.items() if value is not None}


@task(name="evaluate", cache_policy=NO_CACHE, persist_result=False)
def evaluate(gathered: GatheredSum) -> RoundEvaluation:
    """Computes AUC, accuracy, sensitivity and specificity from the summed score histograms.

    The counts carry noise: the figures are those of the nearest histogram. Without held-out rows of
    both classes there is no ROC curve and no AUC.
    """
    histogram = ScoreHistogram.from_noised(gathered.counts)
    figures = evaluate_histogram(histogram)
    return RoundEvaluation(figures, None if figures.auc is None else roc_curve(histogram))
