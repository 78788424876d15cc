"""Figures out of histograms: exact on quantised scores, honest about what is void."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from fl.evaluation import BINS, EDGES, MIDDLES, Evaluation, ScoreHistogram, evaluate
from fl.evaluation import score_histogram as histogram_of

RECORDS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0, 1])), max_size=60)
BOTH_CLASSES = RECORDS.filter(lambda rs: len({y for _, y in rs}) == 2)


def middles(scores: np.ndarray) -> np.ndarray:
    return MIDDLES[np.searchsorted(EDGES[1:-1], scores, side="right")]


@given(BOTH_CLASSES)
@settings(max_examples=100, deadline=None)
def test_the_figures_are_those_of_sklearn_on_quantised_scores(
    records: list[tuple[float, int]],
) -> None:
    scores, labels = np.array([s for s, _ in records]), np.array([y for _, y in records])
    figures, coarse = evaluate(histogram_of(scores, labels)), middles(scores)
    assert figures.auc == pytest.approx(roc_auc_score(labels, coarse), abs=1e-12)
    assert figures.average_precision == pytest.approx(average_precision_score(labels, coarse))
    assert figures.brier == pytest.approx(brier_score_loss(labels, coarse))
    called = scores >= 0.5
    assert figures.accuracy == pytest.approx(accuracy_score(labels, called))
    assert figures.sensitivity == pytest.approx(recall_score(labels, called))
    assert figures.specificity == pytest.approx(recall_score(1 - labels, ~called))
    if called.any():
        assert figures.ppv == pytest.approx(precision_score(labels, called))
    if not called.all():
        assert figures.npv == pytest.approx(precision_score(1 - labels, ~called))
    assert (figures.records, figures.positives) == (len(records), int(labels.sum()))


@given(RECORDS)
@settings(max_examples=50, deadline=None)
def test_every_figure_lies_between_0_and_1_or_is_none(records: list[tuple[float, int]]) -> None:
    figures = evaluate(histogram_of([s for s, _ in records], [y for _, y in records]))
    assert all(0 <= value <= 1 for value in figures.metrics().values())
    assert None not in figures.metrics().values()


def test_the_bins_come_close_to_the_unquantised_auc() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 2000)
    scores = np.clip(0.35 + 0.2 * labels + rng.normal(0, 0.2, 2000), 0, 1)
    figures = evaluate(histogram_of(scores, labels))
    assert figures.auc == pytest.approx(roc_auc_score(labels, scores), abs=0.015)


@pytest.mark.parametrize(
    ("labels", "defined"),
    [
        ([], set()),
        ([0, 0], {"accuracy", "specificity", "ppv", "npv", "ece", "brier"}),
        (
            [1, 1],
            {"accuracy", "sensitivity", "average_precision", "ppv", "npv", "ece", "brier"},
        ),
    ],
    ids=["no records", "no positives", "no negatives"],
)
def test_what_is_not_defined_is_none(labels: list[int], defined: set[str]) -> None:
    figures = evaluate(histogram_of([0.2, 0.8][: len(labels)], labels))
    assert set(figures.metrics()) == defined
    assert (figures.records, figures.positives) == (len(labels), sum(labels))


@pytest.mark.parametrize(
    ("scores", "auc"), [([0.1, 0.9], 1.0), ([0.9, 0.1], 0.0), ([0.5, 0.5], 0.5)]
)
def test_auc_at_its_ends_and_in_a_tie(scores: list[float], auc: float) -> None:
    assert evaluate(histogram_of(scores, [0, 1])).auc == auc


def test_counts_too_large_for_products_in_64_bits_stay_exact() -> None:
    counts = np.zeros(2 * BINS, np.int64)
    counts[[0, BINS - 1, BINS, 2 * BINS - 1]] = 2**40
    assert evaluate(ScoreHistogram.from_counts(counts)).auc == 0.5


def test_noise_lowers_the_figures_by_no_more_than_the_documentation_says() -> None:
    """Two well separated classes of 90 and 55 rows, noise of 3.1 on each count of the sum."""
    exact = np.zeros(2 * BINS, np.int64)
    exact[[0, 1, 2, 4]] = [60, 20, 8, 2]
    exact[[BINS + 3, BINS + 5, BINS + 6, BINS + 7]] = [3, 5, 12, 35]
    truth = evaluate(ScoreHistogram.from_counts(exact)).metrics()
    generator = np.random.default_rng(0)
    found: list[Evaluation] = [
        evaluate(ScoreHistogram.from_noised(exact + np.rint(generator.normal(0, 3.1, 2 * BINS))))
        for _ in range(300)
    ]
    for name in ("auc", "accuracy"):
        mean = np.mean([figures.metrics()[name] for figures in found])
        assert -0.05 < mean - truth[name] < 0.01
