"""Charts of a hospital's own figures, as the geometry of inline SVG beside their numbers.

    chart = roc_chart(figures)
    chart.lines[0].points     # "0.0,200.0 …", in the units of the picture

The template draws them in the page's own colours, so that they follow light and dark, and puts each
chart's numbers in a table beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fl.local_report import FINE_BINS, OwnFigures

WIDTH: Final = 300.0
HEIGHT: Final = 220.0
COARSE_BINS: Final = 10
"""Bins that the pictures and their tables show, each of ten fine ones."""

_ROC_TABLE: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: its place in the picture and what is written there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points, in the class of the style sheet that colours it."""

    kind: str
    points: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A point; its radius grows with its weight."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar that stands on the horizontal axis."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart, and the table that says the same.

    Attributes:
        key: names it within the page.
        title: its heading.
        summary: one sentence for who does not see it.
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
        x_ticks: along it.
        y_ticks: along it.
        columns: heads of the table.
        rows: its cells, text.
        lines: drawn last.
        dots: drawn on the lines.
        bars: drawn first.
        legend: class and name of each kind of mark, where there are several.
    """

    key: str
    title: str
    summary: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Sequence[Line] = ()
    dots: Sequence[Dot] = ()
    bars: Sequence[Bar] = ()
    legend: Sequence[tuple[str, str]] = ()


def roc_chart(figures: OwnFigures) -> Chart | None:
    """Returns the ROC curve; None unless both classes are present."""
    n, p = figures.of_negatives, figures.of_positives
    if n == 0 or p == 0:
        return None
    fpr = np.concatenate([[0], np.cumsum(figures.negatives[::-1])]) / n
    tpr = np.concatenate([[0], np.cumsum(figures.positives[::-1])]) / p
    rows = []
    for threshold in _ROC_TABLE:
        above = FINE_BINS - round(threshold * FINE_BINS)
        rows.append((f"{threshold:.1f}", percent(tpr[above]), percent(1 - fpr[above])))
    return Chart(
        key="roc",
        title="ROC curve",
        summary="Share of positives found against share of negatives called positive, for every "
        "threshold; the dashed diagonal is guessing.",
        x_label="1 − specificity",
        y_label="sensitivity",
        x_ticks=_x_shares(),
        y_ticks=_y_shares(),
        columns=("threshold", "sensitivity", "specificity"),
        rows=rows,
        lines=(_diagonal(), Line("own", _points(zip(fpr, tpr, strict=True)))),
    )


def calibration_chart(figures: OwnFigures) -> Chart | None:
    """Returns how many are positive among records of like scores; None without records."""
    if figures.records == 0:
        return None
    negatives, positives = _fine(figures.negatives), _fine(figures.positives)
    middles = (np.arange(FINE_BINS) + 0.5) / FINE_BINS
    both = negatives + positives
    totals = _coarse(both)
    rows, points, dots = [], [], []
    for at in range(COARSE_BINS):
        total, positive = int(totals[at]), int(_coarse(positives)[at])
        if total == 0:
            continue
        expected = float(_coarse(both * middles)[at]) / total
        points.append((expected, positive / total))
        radius = 2.5 + 4.5 * (total / int(totals.max())) ** 0.5
        dots.append(Dot(_x(expected), _y(positive / total), round(radius, 1)))
        rows.append((_band(at), str(total), percent(expected), percent(positive / total)))
    return Chart(
        key="calibration",
        title="Calibration",
        summary="Share of positives among records of like scores against their mean score; on the "
        "dashed diagonal the score is the chance. Larger dots stand for more records.",
        x_label="mean score",
        y_label="share positive",
        x_ticks=_x_shares(),
        y_ticks=_y_shares(),
        columns=("score", "records", "mean score", "positive"),
        rows=rows,
        lines=(_diagonal(), Line("own", _points(points))),
        dots=dots,
    )


def score_chart(figures: OwnFigures, classes: tuple[str, str]) -> Chart | None:
    """Returns the number of records of each class by score; None without records."""
    if figures.records == 0:
        return None
    counts = [_coarse(_fine(of)) for of in (figures.negatives, figures.positives)]
    top = _round_up(int(max(of.max() for of in counts)))
    bars = []
    width = WIDTH / COARSE_BINS
    for kind, of, offset in zip(("negative", "positive"), counts, (0.1, 0.5), strict=True):
        for at, count in enumerate(of):
            height = HEIGHT * int(count) / top
            x = width * (at + offset)
            bars.append(
                Bar(kind, round(x, 1), round(HEIGHT - height, 1), width * 0.4, round(height, 1))
            )
    steps = (0, top // 2, top) if top % 2 == 0 else (0, top)
    return Chart(
        key="scores",
        title="Scores by class",
        summary="Number of records of each class by score; a model that tells them apart has the "
        "negative class on the left and the positive one on the right.",
        x_label="score",
        y_label="records",
        x_ticks=_x_shares(),
        y_ticks=[Tick(round(HEIGHT - HEIGHT * step / top, 1), str(step)) for step in steps],
        columns=("score", classes[0], classes[1]),
        rows=[(_band(at), *(str(int(of[at])) for of in counts)) for at in range(COARSE_BINS)],
        bars=bars,
        legend=(("negative", classes[0]), ("positive", classes[1])),
    )


def percent(share: float) -> str:
    """Returns a share as it is printed."""
    return f"{100 * share:.0f} %"


def _fine(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.asarray(counts, np.int64)


def _coarse(fine: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    summed: NDArray[np.float64] = np.asarray(fine, np.float64).reshape(COARSE_BINS, -1).sum(axis=1)
    return summed


def _band(at: int) -> str:
    return f"{at / COARSE_BINS:.1f}–{(at + 1) / COARSE_BINS:.1f}"


def _round_up(most: int) -> int:
    """The next number of one digit and zeros, so that the axis ends on a round one."""
    unit: int = 10 ** (len(str(most)) - 1)
    return -(-most // unit) * unit


def _x(share: float) -> float:
    return round(WIDTH * float(share), 1)


def _y(share: float) -> float:
    return round(HEIGHT * (1 - float(share)), 1)


def _points(pairs: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{_x(x)},{_y(y)}" for x, y in pairs)


def _diagonal() -> Line:
    return Line("guess", _points([(0, 0), (1, 1)]))


def _x_shares() -> list[Tick]:
    return [Tick(_x(share), f"{share:g}") for share in (0, 0.25, 0.5, 0.75, 1)]


def _y_shares() -> list[Tick]:
    return [Tick(_y(share), f"{share:g}") for share in (0, 0.25, 0.5, 0.75, 1)]
