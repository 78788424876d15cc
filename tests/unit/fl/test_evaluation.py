"""Figures from score histograms: exact on quantised scores, additive, honest about what is void."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from fl.errors import ModelError
from fl.evaluation import (
    BINS,
    EDGES,
    Evaluation,
    ScoreHistogram,
    evaluate,
    roc_curve,
    score_histogram,
)

RECORDS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0, 1])), max_size=60)
COUNTS = st.lists(st.integers(0, 9), min_size=2 * BINS, max_size=2 * BINS)


def histogram_of(records: list[tuple[float, int]]) -> ScoreHistogram:
    return score_histogram([s for s, _ in records], [y for _, y in records])


def quantised(scores: np.ndarray) -> np.ndarray:
    return np.searchsorted(EDGES[1:-1], scores, side="right")


@given(RECORDS.filter(lambda rs: len({y for _, y in rs}) == 2))
@settings(max_examples=150, deadline=None)
def test_the_figures_are_those_of_sklearn_on_quantised_scores(
    records: list[tuple[float, int]],
) -> None:
    scores = np.array([s for s, _ in records])
    labels = np.array([y for _, y in records])
    figures = evaluate(histogram_of(records))
    assert figures.auc == pytest.approx(roc_auc_score(labels, quantised(scores)), abs=1e-12)
    called = scores >= 0.5
    assert figures.accuracy == pytest.approx(accuracy_score(labels, called))
    assert figures.sensitivity == pytest.approx(recall_score(labels, called))
    assert figures.specificity == pytest.approx(recall_score(1 - labels, ~called))
    assert (figures.records, figures.positives) == (len(records), int(labels.sum()))


def test_ten_bins_come_close_to_the_unquantised_auc() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 2000)
    scores = np.clip(0.35 + 0.2 * labels + rng.normal(0, 0.2, 2000), 0, 1)
    figures = evaluate(score_histogram(scores, labels))
    assert figures.auc == pytest.approx(roc_auc_score(labels, scores), abs=5e-3)


@given(RECORDS, RECORDS)
@settings(max_examples=100, deadline=None)
def test_histograms_of_parts_add_up_to_the_whole(
    one: list[tuple[float, int]], other: list[tuple[float, int]]
) -> None:
    total = histogram_of(one) + histogram_of(other)
    assert total == histogram_of(one + other) == histogram_of(other) + histogram_of(one)
    assert hash(total) == hash(histogram_of(one + other))
    assert total + ScoreHistogram.empty() == total


@given(COUNTS)
@settings(max_examples=30, deadline=None)
def test_counts_round_trip(counts: list[int]) -> None:
    histogram = ScoreHistogram.from_counts(np.asarray(counts, np.uint64))
    assert histogram.counts().tolist() == counts
    assert histogram.counts().dtype == np.int64


def test_the_edges_of_the_scale_have_their_bins() -> None:
    histogram = score_histogram([0.0, 0.5, np.nextafter(0.5, 0), 1.0], [0, 1, 0, 1])
    assert np.flatnonzero(histogram.negatives).tolist() == [0, BINS // 2 - 1]
    assert np.flatnonzero(histogram.positives).tolist() == [BINS // 2, BINS - 1]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([], Evaluation(None, None, None, None, 0, 0)),
        ([0, 0], Evaluation(None, 0.5, None, 0.5, 2, 0)),
        ([1, 1], Evaluation(None, 0.5, 0.5, None, 2, 2)),
    ],
)
def test_what_is_not_defined_is_none(labels: list[int], expected: Evaluation) -> None:
    histogram = score_histogram([0.2, 0.8][: len(labels)], labels)
    assert evaluate(histogram) == expected
    with pytest.raises(ModelError, match="needs both classes"):
        roc_curve(histogram)


@pytest.mark.parametrize(
    ("scores", "auc"), [([0.1, 0.9], 1.0), ([0.9, 0.1], 0.0), ([0.5, 0.5], 0.5)]
)
def test_auc_at_its_ends_and_in_a_tie(scores: list[float], auc: float) -> None:
    assert evaluate(score_histogram(scores, [0, 1])).auc == auc


def test_a_threshold_moves_the_operating_point() -> None:
    histogram = score_histogram([0.1, 0.3, 0.4, 0.9], [0, 0, 1, 1])
    assert evaluate(histogram, threshold=0).specificity == 0
    assert evaluate(histogram, threshold=0.3).specificity == 0.5
    assert evaluate(histogram, threshold=1).sensitivity == 0
    # Between two edges, the next edge above counts.
    assert evaluate(histogram, threshold=0.2501) == evaluate(histogram, threshold=0.3)
    with pytest.raises(ModelError, match=r"threshold 1\.5"):
        evaluate(histogram, threshold=1.5)


def test_counts_too_large_for_products_in_64_bits_stay_exact() -> None:
    counts = np.zeros(2 * BINS, np.int64)
    counts[[0, BINS - 1, BINS, 2 * BINS - 1]] = 2**40
    assert evaluate(ScoreHistogram.from_counts(counts)).auc == 0.5


@given(RECORDS.filter(lambda rs: len({y for _, y in rs}) == 2))
@settings(max_examples=50, deadline=None)
def test_the_roc_curve_is_that_of_sklearn(records: list[tuple[float, int]]) -> None:
    histogram = histogram_of(records)
    curve = roc_curve(histogram)
    assert (curve.fpr[0], curve.tpr[0], curve.thresholds[0]) == (0, 0, 1)
    assert (curve.fpr[-1], curve.tpr[-1], curve.thresholds[-1]) == (1, 1, 0)
    assert curve.fpr.shape == curve.tpr.shape == curve.thresholds.shape == (BINS + 1,)
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(evaluate(histogram).auc)
    labels = [y for _, y in records]
    scores = quantised(np.array([s for s, _ in records])) / BINS
    fpr, tpr, thresholds = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    at = np.searchsorted(-curve.thresholds, -thresholds[1:])
    np.testing.assert_allclose(curve.fpr[at], fpr[1:])
    np.testing.assert_allclose(curve.tpr[at], tpr[1:])


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([np.nan, 0.5], [0, 1], "1 of 2 scores"),
        ([1.0001, -0.1], [0, 1], "2 of 2 scores"),
        ([0.5], [2], "1 of 1 labels"),
        ([0.5, 0.5], [1], "must be"),
        ([[0.5]], [[1]], "must be"),
    ],
)
def test_scores_that_are_none_are_refused(scores: list, labels: list, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        score_histogram(scores, labels)


@pytest.mark.parametrize(
    "counts",
    [np.zeros(BINS), np.full(2 * BINS, -1), np.full(2 * BINS, 0.5), np.full(2 * BINS, 2**60)],
)
def test_counts_that_are_none_are_refused(counts: np.ndarray) -> None:
    with pytest.raises(ModelError, match="count"):
        ScoreHistogram.from_counts(counts)


NOISED = st.lists(st.integers(-40, 60), min_size=BINS, max_size=BINS)


@given(negatives=NOISED, positives=NOISED)
def test_noised_counts_become_the_nearest_histogram_of_the_same_total(
    negatives: list[int], positives: list[int]
) -> None:
    histogram = ScoreHistogram.from_noised(negatives + positives)
    for noised, found in ((negatives, histogram.negatives), (positives, histogram.positives)):
        total = max(sum(noised), 0)
        assert found.sum() == total
        # Kuhn and Tucker: what stays above zero has given up the same, the rest no more than that.
        given_up = np.array(noised) - found
        if total and np.any(stays := found > 0):
            assert np.ptp(given_up[stays]) <= 1
            assert given_up[~stays].max(initial=-100) <= given_up[stays].max()


@given(COUNTS)
def test_counts_that_no_noise_made_negative_stay_as_they_are(counts: list[int]) -> None:
    assert ScoreHistogram.from_noised(counts) == ScoreHistogram.from_counts(counts)


def test_noise_lowers_the_auc_by_no_more_than_the_documentation_says() -> None:
    """Two well separated classes of 90 and 55 rows, noise of 3.1 on each count of the sum."""
    exact = np.zeros(2 * BINS, np.int64)
    exact[[0, 1, 2, 5]] = [60, 20, 8, 2]
    exact[[BINS + 4, BINS + 7, BINS + 8, BINS + 9]] = [3, 5, 12, 35]
    truth = evaluate(ScoreHistogram.from_counts(exact))
    generator = np.random.default_rng(0)
    found = [
        evaluate(ScoreHistogram.from_noised(exact + np.rint(generator.normal(0, 3.1, 2 * BINS))))
        for _ in range(300)
    ]
    assert truth.auc is not None
    assert truth.accuracy is not None
    assert abs(np.mean([f.auc or 0.0 for f in found]) - truth.auc) < 0.05
    assert abs(np.mean([f.accuracy or 0.0 for f in found]) - truth.accuracy) < 0.05


@pytest.mark.parametrize(
    "counts", [np.zeros(BINS), np.full(2 * BINS, 0.5), np.full(2 * BINS, 1e17)]
)
def test_noised_counts_that_are_none_are_refused(counts: np.ndarray) -> None:
    with pytest.raises(ModelError, match="score counts"):
        ScoreHistogram.from_noised(counts)


def test_a_histogram_cannot_be_changed() -> None:
    counts = np.zeros(2 * BINS, np.int64)
    histogram = ScoreHistogram.from_counts(counts)
    counts[0] = 5
    assert histogram == ScoreHistogram.empty()
    assert histogram != "histogram"
    with pytest.raises(ValueError, match="read-only"):
        histogram.negatives[0] = 1
    with pytest.raises(ModelError, match="negatives: shape"):
        ScoreHistogram(counts, counts)
