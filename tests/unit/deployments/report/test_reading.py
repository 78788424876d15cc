"""The sentences say what the figures say, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deployments.report import reading as report_reading
from fl.local_report import LocalReport, OwnFigures, figures_of

Kept = Callable[..., LocalReport]

NO_DIFFERENCE = "That is no sign of a difference between this hospital and the others."


def reading(own: OwnFigures, metrics: dict[str, Any], threshold: float = 0.5) -> list[str]:
    return report_reading.reading(own, metrics, threshold=threshold)


def of(**figures: Any) -> OwnFigures:
    """The figures of 100 records that are half positive, but for what is given."""
    made = figures_of([0.2] * 50 + [0.8] * 50, [0] * 50 + [1] * 50)
    return made.model_copy(update={"auc": 0.8, "auc_low": 0.75, "auc_high": 0.85, **figures})


@pytest.mark.parametrize(
    ("low", "high", "where", "said"),
    [
        (0.7, 0.9, "within", NO_DIFFERENCE),
        (0.82, 0.9, "below", NO_DIFFERENCE),
        (0.6, 0.78, "above", NO_DIFFERENCE),
        (0.9, 0.95, "below", "The model orders this hospital's patients less well"),
        (0.5, 0.6, "above", "The model orders this hospital's patients better"),
    ],
)
def test_the_auc_is_laid_against_the_interval_of_all(
    low: float, high: float, where: str, said: str
) -> None:
    sentences = reading(of(), {"auc": (low + high) / 2, "auc_low": low, "auc_high": high})
    place = f"Your AUC of 0.80 lies {where} the interval of all hospitals together, "
    assert f"{place}{low:.2f} to {high:.2f}." in sentences
    assert any(sentence.startswith(said) for sentence in sentences)


def test_without_an_interval_of_all_their_auc_is_laid_against_the_own_interval() -> None:
    assert NO_DIFFERENCE in reading(of(), {"auc": 0.84})
    assert NO_DIFFERENCE not in reading(of(), {"auc": 0.9})
    assert NO_DIFFERENCE not in reading(of(), {})


def test_counts_at_the_threshold_are_whole_records() -> None:
    sentences = reading(of(sensitivity=0.9, specificity=0.8), {})
    assert "Of 50 positive records 45 have a score of 0.5 or more." in sentences
    assert "Of 50 negative records 10 have such a score, wrongly." in sentences


@pytest.mark.parametrize(
    ("mean", "said"), [(0.5, "about right"), (0.55, "about right"), (0.7, "high"), (0.3, "low")]
)
def test_scores_are_compared_with_the_share_of_positives(mean: float, said: str) -> None:
    (sentence,) = [s for s in reading(of(mean_score=mean), {}) if "On average" in s]
    assert said in sentence


def test_few_records_are_said_to_be_few(kept: Kept) -> None:
    assert any("hint" in s for s in reading(kept(records=30).whole, {}))
    assert not any("hint" in s for s in reading(kept(records=60).whole, {}))
