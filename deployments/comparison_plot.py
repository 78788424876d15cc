"""The epsilon–accuracy curve of a comparison."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from deployments.comparison import Result, Setting

_CURVES: Final = (("#0b5fa5", "local noise"), ("#c2570c", "noise shared under the sum"))
_LEVELS: Final = {
    Setting("pooled"): ("0.15", "-", "pooled, without privacy"),
    Setting("federated"): ("0.35", "--", "federated, without privacy"),
    Setting("local-only"): ("0.55", ":", "each hospital alone, without privacy"),
}


def comparison_figure(results: Sequence[Result], *, delta: float) -> Figure:
    """Returns accuracy and AUC by epsilon, beside what there is without privacy."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    accuracies = {result.setting: result.accuracy for result in results}
    aucs = {result.setting: result.auc for result in results}
    for axes, title, values in (
        (left, "Accuracy", accuracies),
        (right, "Area under the ROC curve", aucs),
    ):
        _draw(axes, values)
        axes.set(title=title, xlabel=f"epsilon at delta {delta:g}")
        axes.grid(color="0.92")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw(axes: Axes, values: dict[Setting, tuple[float, ...]]) -> None:
    private = [setting for setting in values if setting.epsilon is not None]
    shares = sorted({setting.noise_shares for setting in private})
    for number, (colour, name) in zip(shares, _CURVES, strict=False):
        points = [s for s in private if s.noise_shares == number]
        epsilons = [s.epsilon or 0.0 for s in points]
        axes.errorbar(
            epsilons,
            [statistics.fmean(values[s]) for s in points],
            [statistics.pstdev(values[s]) for s in points],
            color=colour,
            marker="o",
            capsize=3,
            label=f"federated, {name}",
        )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(epsilons))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    for setting, (colour, style, name) in _LEVELS.items():
        if setting in values:
            level = statistics.fmean(values[setting])
            axes.axhline(level, color=colour, linestyle=style, label=name)
