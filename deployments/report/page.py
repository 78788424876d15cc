"""A hospital's report on a training: one HTML file that loads nothing and holds no row.

page(report, hospital_id="north", shared=figures, trouble=None, now=now)

The figures of this hospital are exact and stay in the file; those of all hospitals are the noised
ones of the closing evaluation, if the coordinator could be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from deployments.report.charts import (
    HEIGHT,
    WIDTH,
    calibration_chart,
    percent,
    roc_chart,
    score_chart,
)
from deployments.report.reading import LEAST_RECORDS, figure, reading
from fl.local_report import THRESHOLD, LocalReport, OwnFigures, OwnGroup
from tasks.hospital.exchange import TrainingFigures

_NONE: Final = "–"
_TOO_FEW: Final = "too few"


@dataclass(frozen=True, slots=True)
class Compared:
    """A row of the first table: a figure of this hospital beside that of all."""

    name: str
    note: str
    own: str
    everyone: str


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group of a subgroup with its counts, and its figures where it has enough records."""

    group: str
    records: int
    positives: int
    figures: Sequence[str]


def page(
    report: LocalReport,
    *,
    hospital_id: str,
    shared: TrainingFigures | None,
    trouble: str | None,
    now: datetime,
) -> str:
    """Returns the report, HTML.

    Args:
        report: what this hospital has kept.
        hospital_id: the hospital.
        shared: the figures of all hospitals; None where they could not be had.
        trouble: why not, or why they are not comparable.
        now: when the report is made.
    """
    environment = Environment(
        loader=PackageLoader("deployments.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    comparable = {} if shared is None or trouble is not None else shared.metrics
    threshold = figure(comparable, "threshold")
    threshold = THRESHOLD if threshold is None else threshold
    whole = report.whole.at(threshold)
    enough = whole.records >= LEAST_RECORDS
    charts = (
        (roc_chart(whole), calibration_chart(whole), score_chart(whole, report.classes))
        if enough
        else ()
    )
    return environment.get_template("report.html").render(
        report=report,
        hospital_id=hospital_id,
        shared=shared,
        trouble=trouble,
        now=now,
        least=LEAST_RECORDS,
        threshold=threshold,
        records_of_all=_records(shared),
        compared=_compared(whole, shared, enough=enough),
        reading=reading(whole, comparable, threshold=threshold),
        charts=[chart for chart in charts if chart is not None],
        subgroups=[
            (name, [_group_row(group, threshold) for group in of])
            for name, of in groupby(report.groups, key=lambda group: group.subgroup)
        ],
        width=WIDTH,
        height=HEIGHT,
    )


def _compared(own: OwnFigures, shared: TrainingFigures | None, *, enough: bool) -> list[Compared]:
    metrics = {} if shared is None else shared.metrics
    shown = [
        ("AUC", "auc", "how well scores order patients; 0.5 is guessing"),
        ("Accuracy", "accuracy", "share on the right side of the threshold"),
        ("Sensitivity", "sensitivity", "share of positives found"),
        ("Specificity", "specificity", "share of negatives cleared"),
        ("Brier score", "brier", "mean square error of the score; lower is better"),
    ]
    rows = []
    for name, key, note in shown:
        value = getattr(own, key)
        text, everyone = _printed(key, value), _printed(key, figure(metrics, key))
        if key == "auc":
            text += _interval(own.auc_low, own.auc_high)
            everyone += _interval(figure(metrics, "auc_low"), figure(metrics, "auc_high"))
        rows.append(Compared(name, note, text if enough else _TOO_FEW, everyone))
    return rows


def _records(shared: TrainingFigures | None) -> str:
    """The number of all hospitals' records, as far as the noise lets it be known."""
    value = None if shared is None else shared.metrics.get("records")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return "not told"
    return f"about {value:.0f}"


def _printed(key: str, value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.3f}" if key in ("auc", "brier") else percent(value)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"


def _group_row(group: OwnGroup, threshold: float) -> GroupRow:
    own = group.figures.at(threshold)
    if own.records < LEAST_RECORDS:
        return GroupRow(group.group, own.records, own.of_positives, ())
    figures = (
        _printed("auc", own.auc) + _interval(own.auc_low, own.auc_high),
        _printed("sensitivity", own.sensitivity),
        _printed("specificity", own.specificity),
        _printed("mean_score", own.mean_score),
    )
    return GroupRow(group.group, own.records, own.of_positives, figures)
