"""Histograms of scores: additive, and nearest to what noise has made of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.errors import ModelError
from fl.evaluation import BINS, EDGES, MIDDLES, ScoreHistogram, score_histogram

RECORDS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0, 1])), max_size=60)
COUNTS = st.lists(st.integers(0, 9), min_size=2 * BINS, max_size=2 * BINS)


def histogram_of(records: list[tuple[float, int]]) -> ScoreHistogram:
    return score_histogram([s for s, _ in records], [y for _, y in records])


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


def test_the_edges_are_few_rise_from_0_to_1_and_have_a_half() -> None:
    assert (EDGES[0], EDGES[-1]) == (0, 1)
    assert np.all(np.diff(EDGES) > 0)
    assert 0.5 in EDGES
    np.testing.assert_allclose(EDGES + EDGES[::-1], 1)  # both classes are treated alike
    assert np.all((EDGES[:-1] < MIDDLES) & (MIDDLES < EDGES[1:]))
    with pytest.raises(ValueError, match="read-only"):
        EDGES[0] = 1
