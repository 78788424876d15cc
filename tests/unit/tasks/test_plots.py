"""The pictures that MLflow shows."""

from __future__ import annotations

import numpy as np

from fl.evaluation import roc_curve, score_histogram
from tasks.plots import history_figure, roc_figure


def test_the_roc_picture_shows_the_curve_and_the_diagonal() -> None:
    roc = roc_curve(score_histogram(np.linspace(0, 1, 20), np.arange(20) > 8))
    (axes,) = roc_figure(roc).axes
    diagonal, curve = axes.lines
    assert np.array_equal(curve.get_xdata(), roc.fpr)
    assert np.array_equal(curve.get_ydata(), roc.tpr)
    assert (list(diagonal.get_xdata()), list(diagonal.get_ydata())) == ([0, 1], [0, 1])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("1 - specificity", "sensitivity")


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
