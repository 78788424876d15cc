"""Curves: those of scikit-learn on quantised scores, and their areas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve as sklearn_precision_recall_curve
from sklearn.metrics import roc_curve as sklearn_roc_curve

from fl.errors import ModelError
from fl.evaluation import (
    BINS,
    EDGES,
    evaluate,
    precision_recall_curve,
    roc_curve,
    score_histogram,
)

RECORDS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from([0, 1])), min_size=2, max_size=60
).filter(lambda rs: len({y for _, y in rs}) == 2)


def parted(records: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels, and the lower edges of the scores' bins."""
    scores, labels = np.array([s for s, _ in records]), np.array([y for _, y in records])
    return scores, labels, EDGES[np.searchsorted(EDGES[1:-1], scores, side="right")]


@given(RECORDS)
@settings(max_examples=50, deadline=None)
def test_the_roc_curve_is_that_of_sklearn(records: list[tuple[float, int]]) -> None:
    scores, labels, edges = parted(records)
    histogram = score_histogram(scores, labels)
    curve = roc_curve(histogram)
    assert (curve.fpr[0], curve.tpr[0], curve.thresholds[0]) == (0, 0, 1)
    assert (curve.fpr[-1], curve.tpr[-1], curve.thresholds[-1]) == (1, 1, 0)
    assert curve.fpr.shape == curve.tpr.shape == curve.thresholds.shape == (BINS + 1,)
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(evaluate(histogram).auc)
    fpr, tpr, thresholds = sklearn_roc_curve(labels, edges, drop_intermediate=False)
    at = np.searchsorted(-curve.thresholds, -thresholds[1:])
    np.testing.assert_allclose(curve.fpr[at], fpr[1:])
    np.testing.assert_allclose(curve.tpr[at], tpr[1:])


@given(RECORDS)
@settings(max_examples=50, deadline=None)
def test_the_precision_recall_curve_is_that_of_sklearn(records: list[tuple[float, int]]) -> None:
    scores, labels, edges = parted(records)
    curve = precision_recall_curve(score_histogram(scores, labels))
    assert (curve.recall[0], curve.precision[0], curve.recall[-1]) == (0, 1, 1)
    precision, recall, thresholds = sklearn_precision_recall_curve(labels, edges)
    at = np.searchsorted(-curve.thresholds, -thresholds)
    np.testing.assert_allclose(curve.precision[at], precision[:-1])
    np.testing.assert_allclose(curve.recall[at], recall[:-1])


@pytest.mark.parametrize("label", [0, 1])
def test_a_roc_curve_of_one_class_is_refused(label: int) -> None:
    histogram = score_histogram([0.2, 0.8], [label, label])
    with pytest.raises(ModelError, match="needs both classes"):
        roc_curve(histogram)


def test_a_precision_recall_curve_without_positives_is_refused() -> None:
    with pytest.raises(ModelError, match="needs positives"):
        precision_recall_curve(score_histogram([0.2], [0]))
