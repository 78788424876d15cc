"""What a hospital's figures say, in sentences for people who read no statistics every day.

reading(report.whole, metrics, threshold=0.5)   # ["Your AUC of 0.91 lies within …", …]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from deployments.report.charts import percent
from fl.local_report import OwnFigures

LEAST_RECORDS: Final = 10
"""Fewest records of which figures are shown."""

_FEW: Final = 50
_NOTABLE_GAP: Final = 0.02


def figure(metrics: Mapping[str, Any], name: str) -> float | None:
    """Returns one of the coordinator's figures if it is a share; it could send anything."""
    value = metrics.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= 1 else None  # neither is NaN


def reading(own: OwnFigures, metrics: Mapping[str, Any], *, threshold: float) -> list[str]:
    """Returns what the figures say, and what they cannot say.

    Args:
        own: this hospital's, at the threshold.
        metrics: those of all hospitals; empty where they are not known.
        threshold: least score called positive.
    """
    if own.records < LEAST_RECORDS:
        return [
            f"Only {own.records} held-out records: too few to say anything about this hospital."
        ]
    said = [*_on_auc(own, metrics), *_on_threshold(own, threshold), *_on_calibration(own)]
    if own.records < _FEW:
        said.append(
            f"With {own.records} held-out records one patient more or less moves these figures by "
            "several points: take them as a hint."
        )
    return said


def _on_auc(own: OwnFigures, metrics: Mapping[str, Any]) -> list[str]:
    if own.auc is None:
        return [
            "There is no AUC: it compares patients of both classes, and only one class is among "
            "this hospital's held-out records."
        ]
    said = [
        f"Take one positive and one negative patient of this hospital: the model gives the "
        f"positive one the higher score in {percent(own.auc)} of such pairs. That is your AUC, "
        f"{own.auc:.2f}; 0.5 is guessing, 1 is perfect."
    ]
    everyone = figure(metrics, "auc")
    low, high = figure(metrics, "auc_low"), figure(metrics, "auc_high")
    if low is not None and high is not None:
        where = "within" if low <= own.auc <= high else "below" if own.auc < low else "above"
        said.append(
            f"Your AUC of {own.auc:.2f} lies {where} the interval of all hospitals together, "
            f"{low:.2f} to {high:.2f}."
        )
    elif everyone is not None:
        said.append(f"The AUC of all hospitals together is {everyone:.2f}.")
    if own.auc_low is not None and own.auc_high is not None:
        said.append(
            f"With {own.of_positives} positives and {own.of_negatives} negatives your own AUC is "
            f"uncertain, between {own.auc_low:.2f} and {own.auc_high:.2f} (95 % interval)."
        )
        other = (everyone, everyone) if low is None or high is None else (low, high)
        said.extend(_compared((own.auc_low, own.auc_high), other))
    return said


def _compared(own: tuple[float, float], everyone: tuple[float | None, float | None]) -> list[str]:
    low, high = everyone
    if low is None or high is None:
        return []
    if own[1] < low:
        return [
            "The model orders this hospital's patients less well than those of all hospitals: "
            "look for what differs here (devices, coding, case mix) before you rely on it."
        ]
    if own[0] > high:
        return ["The model orders this hospital's patients better than those of all hospitals."]
    return ["That is no sign of a difference between this hospital and the others."]


def _on_threshold(own: OwnFigures, threshold: float) -> list[str]:
    said = []
    if own.sensitivity is not None:
        found = round(own.sensitivity * own.of_positives)
        said.append(
            f"Of {own.of_positives} positive records {found} have a score of {threshold:g} or more."
        )
    if own.specificity is not None:
        wrong = own.of_negatives - round(own.specificity * own.of_negatives)
        said.append(f"Of {own.of_negatives} negative records {wrong} have such a score, wrongly.")
    return said


def _on_calibration(own: OwnFigures) -> list[str]:
    if own.mean_score is None:
        return []
    seen = own.of_positives / own.records
    said = (
        f"On average the scores expect {percent(own.mean_score)} positive here; {percent(seen)} are"
    )
    gap = own.mean_score - seen
    # Two standard deviations of a share of so many records: what chance alone does.
    by_chance = 2 * math.sqrt(seen * (1 - seen) / own.records)
    if abs(gap) <= max(_NOTABLE_GAP, by_chance):
        return [f"{said}: read as chances, the scores are about right on the whole."]
    much = "high" if gap > 0 else "low"
    return [f"{said}: read as chances, the scores are too {much} here."]
