"""Pictures for MLflow: the ROC curve and the course of a figure over the rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fl.evaluation import RocCurve


def roc_figure(roc: RocCurve) -> Figure:
    """Returns the receiver operating characteristic on all hospitals' held-out rows."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle="--")
    axes.plot(roc.fpr, roc.tpr, color="#0b5fa5", linewidth=2)
    axes.set(
        xlabel="1 - specificity",
        ylabel="sensitivity",
        title="ROC, held-out rows of all hospitals",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        aspect="equal",
    )
    axes.grid(color="0.92")
    return figure


def history_figure(history: Sequence[Mapping[str, float]], name: str, label: str) -> Figure:
    """Returns a figure's course; ``history[step]`` holds the figures after that many rounds."""
    points = [(step, figures[name]) for step, figures in enumerate(history) if name in figures]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(
        [step for step, _ in points],
        [value for _, value in points],
        color="#0b5fa5",
        linewidth=2,
        marker="o",
        markersize=4,
    )
    axes.set(xlabel="rounds trained", ylabel=label, title=f"{label} by round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.92")
    return figure
