"""A round's figures, out of the summed histograms alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fl.errors import ModelError
from fl.evaluation import BINS, ScoreHistogram, score_histogram
from tasks.evaluate import evaluate
from tasks.gather import GatheredSum


def gathered(histogram: ScoreHistogram) -> GatheredSum:
    return GatheredSum(np.zeros(0, np.float32), 3, histogram.counts())


def test_the_figures_are_those_of_all_hospitals_rows_together() -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, BINS, (3, 50)) / BINS
    labels = generator.integers(0, 2, (3, 50))
    summed = sum(map(score_histogram, scores, labels), ScoreHistogram.empty())

    evaluation = evaluate.fn(gathered(summed))
    assert evaluation.figures.auc == pytest.approx(roc_auc_score(labels.ravel(), scores.ravel()))
    called = scores >= 0.5
    assert evaluation.metrics() == {
        "auc": evaluation.figures.auc,
        "accuracy": pytest.approx((called == labels).mean()),
        "sensitivity": pytest.approx(called[labels == 1].mean()),
        "specificity": pytest.approx((~called)[labels == 0].mean()),
    }
    assert evaluation.roc is not None
    assert evaluation.roc.tpr[-1] == evaluation.roc.fpr[-1] == 1.0


@pytest.mark.parametrize(
    ("label", "defined"),
    [(0, {"accuracy", "specificity"}), (1, {"accuracy", "sensitivity"})],
    ids=["no positive rows", "no negative rows"],
)
def test_without_a_class_there_is_no_curve_and_no_auc_and_no_error(
    label: int, defined: set[str]
) -> None:
    histogram = score_histogram(np.linspace(0, 1, 9), np.full(9, label))
    evaluation = evaluate.fn(gathered(histogram))
    assert evaluation.roc is None
    assert evaluation.figures.auc is None
    assert set(evaluation.metrics()) == defined


def test_without_held_out_rows_there_are_no_figures_and_no_error() -> None:
    evaluation = evaluate.fn(gathered(ScoreHistogram.empty()))
    assert evaluation.metrics() == {}
    assert evaluation.roc is None


def test_counts_that_are_no_histogram_are_refused() -> None:
    with pytest.raises(ModelError, match="score counts"):
        evaluate.fn(GatheredSum(np.zeros(0, np.float32), 3, np.zeros(7, np.int64)))
