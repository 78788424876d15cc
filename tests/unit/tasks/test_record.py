"""The summary of a round that people read in Prefect, and how long a hospital took."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from db.models import Participation
from fl.evaluation import Evaluation, GroupFigures, Interval, SubgroupFigures
from tasks.record import RoundOutcome, seconds_taken, summary

INVITED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def participation(hospital_id: str = "east", state: str = "invited", **seconds: Any) -> Any:
    """A hospital's part; ``enrolled=0.5`` is half a second after its invitation."""
    times = {
        f"{stage}_at": INVITED + timedelta(seconds=after)
        for stage, after in seconds.items()
        if stage != "reason"
    }
    return Participation(
        hospital_id=hospital_id,
        state=state,
        invited_at=INVITED,
        reason=seconds.get("reason"),
        **times,
    )


def opened(*, number: int = 2, kind: str = "training") -> Any:
    return SimpleNamespace(
        invitation=SimpleNamespace(
            number=number,
            kind=kind,
            plan=SimpleNamespace(rounds=10),
            model=SimpleNamespace(name="breast-cancer"),
        )
    )


def outcome(**changes: Any) -> RoundOutcome:
    values = {
        "reason": None,
        "metrics": {"auc": 0.98765, "accuracy": 0.9},
        "epsilon": 3.14159,
        "aggregated": None,
        "seconds": 1.5,
    }
    return RoundOutcome(**(values | changes))


@pytest.mark.parametrize(
    ("stages", "seconds"),
    [
        ({}, None),
        ({"enrolled": 0.5}, 0.5),
        ({"enrolled": 0.5, "uploaded": 2.0}, 2.0),
        ({"enrolled": 0.5, "uploaded": 2.0, "revealed": 2.25}, 2.25),
        ({"enrolled": 0.5, "uploaded": 2.0, "revealed": 2.25, "ended": 2.5}, 2.25),
        ({"ended": 60.0}, 60.0),
        ({"enrolled": 0.5, "ended": 60.0}, 0.5),
    ],
)
def test_a_hospital_took_until_its_last_message(
    stages: dict[str, float], seconds: float | None
) -> None:
    assert seconds_taken(participation(**stages)) == seconds


def test_the_summary_is_a_table_of_figures_and_one_of_hospitals() -> None:
    taken_part = [
        participation("east", "revealed", enrolled=0.1, uploaded=1.0, revealed=1.234),
        participation("north", "revealed", revealed=1.5),
    ]
    assert summary(opened(), outcome(), taken_part).splitlines() == [
        "# Round 2 of 10: breast-cancer",
        "",
        "| figure | value |",
        "|-|-|",
        "| auc | 0.9877 |",
        "| accuracy | 0.9 |",
        "| epsilon | 3.142 |",
        "| seconds | 1.5 |",
        "",
        "| hospital | state | seconds | reason |",
        "|-|-|-|-|",
        "| east | revealed | 1.23 |  |",
        "| north | revealed | 1.50 |  |",
    ]


def test_the_summary_of_a_failed_round_begins_with_its_reason() -> None:
    taken_part = [
        participation("east", "refused", ended=0.5, reason="radius: out-of-range"),
        participation("north", "invited"),
    ]
    lines = summary(
        opened(), outcome(reason="east refused: data-contract", metrics={}), taken_part
    ).splitlines()
    assert lines[2] == "**Failed:** east refused: data-contract"
    assert "| east | refused | 0.50 | radius: out-of-range |" in lines
    assert "| north | invited |  |  |" in lines


def test_the_closing_evaluation_is_called_that() -> None:
    lines = summary(opened(number=11, kind="evaluation"), outcome(), []).splitlines()
    assert lines[0] == "# Closing evaluation: breast-cancer"


def test_groups_are_a_table_of_their_own() -> None:
    figures = Evaluation(auc=0.9, sensitivity=0.75, records=60, positives=20)
    groups = (GroupFigures("f", 60, figures, Interval(0.8, 0.95)), GroupFigures("m|d", 12))
    lines = summary(opened(), outcome(subgroups=(SubgroupFigures("sex", groups),)), []).splitlines()
    begin = lines.index("| subgroup | group | held out | auc | sensitivity | specificity |")
    assert lines[begin + 1 : begin + 4] == [
        "|-|-|-|-|-|-|",
        "| sex | f | 60 | 0.900 (0.800 to 0.950) | 0.750 |  |",
        "| sex | m/d | 12 | too few |  |  |",
    ]
