"""A hospital's own figures: exact, of whole and groups, and the same after JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from fl.errors import ModelError
from fl.invitation import RoundInvitation
from fl.local_report import FINE_BINS, LocalReport, figures_of, report_of
from fl.table import Table

NOW = datetime(2026, 1, 2, tzinfo=UTC)

# Of hundredths, so that there are ties.
records = st.lists(
    st.tuples(st.integers(0, 100).map(lambda i: i / 100), st.booleans()), max_size=60
)


def invitation(*subgroups: dict[str, Any]) -> RoundInvitation:
    contract = {
        "columns": [{"name": "x", "minimum": 0, "maximum": 1}],
        "label": {"name": "ill", "negative": "no", "positive": "yes"},
        "subgroups": subgroups,
    }
    plan = {"clip_norm": 0.5, "noise_multiplier": 1.0, "sampling_rate": 0.5, "delta": 1e-5}
    plan |= {"expected_batch_size": 16, "evaluation_noise_multiplier": 4.0}
    plan |= {"steps_per_round": 2, "rounds": 10}
    roster = [
        {"hospital_id": name, "index": i, "signing_key": f"{i}" * 64, "sealing_key": "0" * 64}
        for i, name in enumerate(("east", "north", "west"), start=1)
    ]
    model = {"name": "m", "architecture": {"kind": "logistic"}, "contract": contract}
    return RoundInvitation.model_validate(
        {
            "round_id": UUID(int=1),
            "training_id": UUID(int=2),
            "number": 3,
            "kind": "evaluation",
            "model": model,
            "weights": "0" * 64,
            "plan": plan,
            "roster": roster,
            "deadline_s": 60,
        }
    )


def table(labels: Any, groups: Any = None) -> Table:
    y = np.asarray(labels, np.float32)
    of = None if groups is None else np.asarray(groups, np.int8)
    return Table(np.zeros((len(y), 1), np.float32), y, groups=of)


@given(records)
def test_figures_are_those_of_the_records(found: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in found])
    labels = np.array([label for _, label in found], np.float64)
    figures = figures_of(scores, labels)
    assert figures.records == len(found)
    assert figures.of_positives == labels.sum()
    if len(set(labels)) < 2:
        assert figures.auc is figures.auc_low is None
    else:
        assert figures.auc == pytest.approx(roc_auc_score(labels, scores))
        if figures.auc_low is not None and figures.auc_high is not None:
            assert 0 <= figures.auc_low < figures.auc < figures.auc_high <= 1
    if found:
        assert figures.accuracy == pytest.approx(np.mean((scores >= 0.5) == labels))
        assert figures.brier == pytest.approx(np.mean((scores - labels) ** 2))


def test_the_interval_holds_the_true_auc_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    labels = np.repeat([0.0, 1.0], 40)
    true, held, trials = 0.7602, 0, 300  # of normal scores one apart: Φ(1/√2)
    for _ in range(trials):
        figures = figures_of(1 / (1 + np.exp(-generator.normal(labels, 1.0))), labels)
        assert figures.auc_low is not None
        assert figures.auc_high is not None
        held += figures.auc_low <= true <= figures.auc_high
    assert 0.91 <= held / trials <= 0.99


@given(records, st.integers(0, 100).map(lambda i: i / 100))
def test_figures_at_another_threshold_are_those_of_the_records(
    found: list[tuple[float, bool]], threshold: float
) -> None:
    scores = np.array([score for score, _ in found])
    labels = np.array([label for _, label in found], bool)
    figures = figures_of(scores, labels).at(threshold)
    called = scores >= threshold
    if threshold == 1:  # the last bin holds 1 itself: nobody is called positive
        called &= False
    for value, of in (
        (figures.accuracy, called == labels),
        (figures.sensitivity, called[labels]),
        (figures.specificity, ~called[~labels]),
    ):
        assert value == (pytest.approx(of.mean()) if len(of) else None)


def test_without_records_there_are_no_figures() -> None:
    figures = figures_of([], [])
    assert figures.records == 0
    assert figures.model_dump(exclude={"negatives", "positives"}, exclude_none=True) == {}


def test_a_score_on_an_edge_belongs_to_the_bin_above_and_one_to_the_last() -> None:
    figures = figures_of([0.29, 0.5, 1.0], [0, 1, 1])
    assert figures.negatives[29] == 1
    assert (figures.positives[50], figures.positives[FINE_BINS - 1]) == (1, 1)


def test_groups_are_those_of_the_contract_and_who_is_in_none_counts_in_the_whole_alone() -> None:
    asked = invitation(
        {"name": "sex", "groups": ["f", "m"]}, {"name": "age", "bands": [0, 40, 120]}
    )
    report = report_of(
        asked,
        scores=[0.1, 0.9, 0.8, 0.2],
        table=table([0, 1, 0, 1], [[0, 1], [0, 1], [1, 1], [-1, 0]]),
        now=NOW,
    )
    counted = {(g.subgroup, g.group): g.figures.records for g in report.groups}
    assert counted == {("sex", "f"): 2, ("sex", "m"): 1, ("age", "0-40"): 1, ("age", "40-120"): 3}
    assert report.groups[0].figures.auc == 1
    assert report.whole.records == 4
    assert (report.label, report.classes) == ("ill", ("no", "yes"))


def test_a_report_is_the_same_after_json_and_holds_no_score() -> None:
    report = report_of(invitation(), scores=[0.123456, 0.654321], table=table([0, 1]), now=NOW)
    text = report.model_dump_json()
    assert LocalReport.model_validate_json(text) == report
    assert "123456" not in text


def test_what_no_report_can_be_is_refused() -> None:
    report = report_of(invitation(), scores=[0.1], table=table([0]), now=NOW)
    good = report.model_dump(mode="json")
    for change in ({"version": 2}, {"rows": []}, {"whole": {**good["whole"], "negatives": [1]}}):
        with pytest.raises(ValidationError):
            LocalReport.model_validate({**good, **change})
    group = {"subgroup": "sex", "group": "f", "figures": figures_of([0.1, 0.2], [0, 1])}
    with pytest.raises(ValidationError, match="more records than the whole"):
        LocalReport.model_validate({**report.model_dump(), "groups": [group]})


@pytest.mark.parametrize(
    ("scores", "labels", "said"),
    [
        ([0.1], [0, 1], r"shape \(1,\) and labels of shape \(2,\)"),
        ([float("nan"), 0.73], [0, 1], "1 of 2 scores are not numbers from 0 to 1"),
        ([1.73], [1], "1 of 1 scores"),
        ([0.1], [2], "1 of 1 labels are neither 0 nor 1"),
    ],
)
def test_what_no_figures_come_from_is_named_without_a_value(
    scores: list[float], labels: list[float], said: str
) -> None:
    with pytest.raises(ModelError, match=said) as raised:
        figures_of(scores, labels)
    assert "73" not in str(raised.value)


def test_a_table_without_the_contract_s_groups_is_refused() -> None:
    asked = invitation({"name": "sex", "groups": ["f", "m"]})
    with pytest.raises(ModelError, match="the table has none of shape"):
        report_of(asked, scores=[0.1], table=table([0]), now=NOW)
