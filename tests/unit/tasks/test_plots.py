"""The pictures that MLflow shows."""

from __future__ import annotations

import numpy as np

from fl.evaluation import (
    Evaluation,
    GroupFigures,
    Interval,
    ScoreHistogram,
    SubgroupFigures,
    evaluate,
    precision_recall_curve,
    roc_curve,
    score_histogram,
)
from tasks.evaluate import RoundEvaluation
from tasks.plots import (
    figures_of,
    history_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
    subgroups_figure,
)

HISTOGRAM = score_histogram(np.linspace(0, 1, 40), np.arange(40) > 18)
SEX = SubgroupFigures(
    "sex",
    (
        GroupFigures(
            "f",
            60,
            Evaluation(auc=0.9, sensitivity=0.8, records=60, positives=20),
            Interval(0.8, 0.95),
        ),
        GroupFigures("m", 12),
    ),
)


def test_the_roc_picture_shows_the_curve_and_the_diagonal() -> None:
    roc = roc_curve(HISTOGRAM)
    (axes,) = roc_figure(roc).axes
    diagonal, curve = axes.lines
    assert np.array_equal(curve.get_xdata(), roc.fpr)
    assert np.array_equal(curve.get_ydata(), roc.tpr)
    assert (list(diagonal.get_xdata()), list(diagonal.get_ydata())) == ([0, 1], [0, 1])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("1 - specificity", "sensitivity")


def test_precision_is_shown_against_recall_over_the_share_of_positives() -> None:
    curve = precision_recall_curve(HISTOGRAM)
    (axes,) = precision_recall_figure(curve).axes
    guide, steps = axes.lines
    assert guide.get_ydata()[0] == 21 / 40
    assert np.array_equal(steps.get_xdata(), curve.recall)
    assert np.array_equal(steps.get_ydata(), curve.precision)


def test_bins_that_noise_may_have_made_are_no_points_of_the_reliability_picture() -> None:
    counts = np.zeros(16, np.int64)
    counts[[0, 3, 8, 15]] = [80, 5, 20, 50]
    histogram = ScoreHistogram.from_counts(counts)
    (exact,), (noised,) = (reliability_figure(histogram, std).axes for std in (0, 4))
    assert list(exact.lines[1].get_ydata()) == [0.2, 0, 1]
    assert list(noised.lines[1].get_ydata()) == [0.2, 1]  # at 4, from 28 records on


def test_a_group_with_too_few_records_has_no_bars_and_says_so() -> None:
    (axes,) = subgroups_figure([SEX]).axes
    assert [bar.get_height() for bar in axes.patches] == [0.9, 0, 0.8, 0, 0, 0]
    assert [text.get_text() for text in axes.texts] == ["too few"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["f", "m"]
    assert len(axes.collections) == 1  # one interval
    assert len(subgroups_figure([SEX, SEX]).axes) == 2


def test_an_evaluation_has_the_pictures_that_it_defines() -> None:
    everything = RoundEvaluation(histogram=HISTOGRAM, figures=evaluate(HISTOGRAM), subgroups=(SEX,))
    assert set(figures_of(everything)) == {"roc", "precision_recall", "reliability", "subgroups"}
    empty = ScoreHistogram.empty()
    nothing = RoundEvaluation(histogram=empty, figures=evaluate(empty))
    assert set(figures_of(nothing)) == {"reliability"}


def test_a_figure_s_course_leaves_out_rounds_without_it() -> None:
    history = [{"auc": 0.5}, {"epsilon": 1.0}, {"auc": 0.9}]
    (axes,) = history_figure(history, "auc", "AUC").axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [0, 2]
    assert list(line.get_ydata()) == [0.5, 0.9]
    assert axes.get_title() == "AUC by round"


def test_a_figure_that_was_never_measured_is_an_empty_picture() -> None:
    (axes,) = history_figure([{}, {}], "auc", "AUC").axes
    assert list(axes.lines[0].get_xdata()) == []
