"""Pictures of what a round measured and of the course of a figure over the rounds.

for name, figure in figures_of(evaluation).items(): mlflow.log_figure(figure, f"plots/{name}.png")
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fl.evaluation import PrecisionRecallCurve, RocCurve, ScoreHistogram, SubgroupFigures
from fl.evaluation.calibration import reliability
from fl.evaluation.subgroups import COMPARED, LEAST_DEVIATIONS
from tasks.evaluate import RoundEvaluation

_LINE: Final[dict[str, Any]] = {"color": "#0b5fa5", "linewidth": 2}
_GUIDE: Final[dict[str, Any]] = {"color": "0.7", "linewidth": 1, "linestyle": "--"}
_BARS: Final = ("#0b5fa5", "#e08214", "#4d9221")


def figures_of(evaluation: RoundEvaluation) -> dict[str, Figure]:
    """Returns the pictures that an evaluation defines, by name."""
    figures = {"reliability": reliability_figure(evaluation.histogram, evaluation.noise_std)}
    if evaluation.roc is not None:
        figures["roc"] = roc_figure(evaluation.roc)
    if evaluation.precision_recall is not None:
        figures["precision_recall"] = precision_recall_figure(evaluation.precision_recall)
    if evaluation.subgroups:
        figures["subgroups"] = subgroups_figure(evaluation.subgroups)
    return figures


def roc_figure(roc: RocCurve) -> Figure:
    """Returns the receiver operating characteristic on all hospitals' held-out rows."""
    figure, axes = _square("ROC", "1 - specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], **_GUIDE)
    axes.plot(roc.fpr, roc.tpr, **_LINE)
    return figure


def precision_recall_figure(curve: PrecisionRecallCurve) -> Figure:
    """Returns precision against recall, in steps; the guide is the share of positives."""
    figure, axes = _square("Precision and recall", "recall (sensitivity)", "precision (PPV)")
    axes.axhline(curve.precision[-1], **_GUIDE)
    axes.step(curve.recall, curve.precision, where="pre", **_LINE)
    return figure


def reliability_figure(histogram: ScoreHistogram, noise_std: float) -> Figure:
    """Returns observed shares of positives against scores.

    Bins whose records do not stand out from their noise (five deviations) are left out.
    """
    curve = reliability(histogram)
    # A bin's records are two counts.
    least = max(1.0, LEAST_DEVIATIONS * noise_std * math.sqrt(2))
    shown = curve.records >= least
    figure, axes = _square("Reliability", "score (middle of bin)", "share of positives")
    axes.plot([0, 1], [0, 1], **_GUIDE)
    axes.plot(curve.predicted[shown], curve.observed[shown], marker="o", markersize=5, **_LINE)
    return figure


def subgroups_figure(subgroups: Sequence[SubgroupFigures]) -> Figure:
    """Returns a panel a subgroup: AUC, sensitivity and specificity of each group as bars.

    A group with too few records has no bars and says so; the AUC's bar carries its interval.
    """
    figure = Figure(figsize=(6, 3.2 * len(subgroups)), layout="constrained")
    panels: list[Axes] = list(np.atleast_1d(np.asarray(figure.subplots(len(subgroups), 1))))
    for axes, subgroup in zip(panels, subgroups, strict=True):
        _bars(axes, subgroup)
    panels[0].legend(loc="lower left", fontsize=8)
    return figure


def history_figure(history: Sequence[Mapping[str, float]], name: str, label: str) -> Figure:
    """Returns a figure's course; ``history[step]`` holds the figures after that many rounds."""
    points = [(step, figures[name]) for step, figures in enumerate(history) if name in figures]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(
        [step for step, _ in points],
        [value for _, value in points],
        marker="o",
        markersize=4,
        **_LINE,
    )
    axes.set(xlabel="rounds trained", ylabel=label, title=f"{label} by round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.92")
    return figure


def _square(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.set(
        xlabel=x,
        ylabel=y,
        title=f"{title}, held-out rows of all hospitals",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        aspect="equal",
    )
    axes.grid(color="0.92")
    return figure, axes


def _bars(axes: Axes, subgroup: SubgroupFigures) -> None:
    width = 0.8 / len(COMPARED)
    for place, (name, color) in enumerate(zip(COMPARED, _BARS, strict=True)):
        values = [
            0.0 if g.figures is None else getattr(g.figures, name) or 0.0 for g in subgroup.groups
        ]
        at = np.arange(len(values)) + (place - (len(COMPARED) - 1) / 2) * width
        axes.bar(at, values, width, color=color, label=name)
        if name == "auc":
            _intervals(axes, subgroup, at)
    for place, group in enumerate(subgroup.groups):
        if group.figures is None:
            axes.text(place, 0.02, "too few", ha="center", fontsize=8, color="0.4")
    axes.set_xticks(range(len(subgroup.groups)), [group.label for group in subgroup.groups])
    axes.set(title=subgroup.name, ylim=(0, 1.01))
    axes.grid(axis="y", color="0.92")


def _intervals(axes: Axes, subgroup: SubgroupFigures, at: np.ndarray[Any, Any]) -> None:
    for x, group in zip(at, subgroup.groups, strict=True):
        if group.interval is not None:
            axes.vlines(x, group.interval.low, group.interval.high, color="0.2", linewidth=1)
