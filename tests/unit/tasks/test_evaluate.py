"""A round's figures, out of the summed histograms alone."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlflow.utils.validation import _validate_metric_name
from sklearn.metrics import roc_auc_score

from fl.contract import DataContract, Label, NumberColumn
from fl.errors import ModelError
from fl.evaluation import EDGES, ScoreHistogram, auc_interval, score_histogram
from fl.evaluation.counts import encode
from fl.integer_noise import count_noise_std
from fl.operating_point import OperatingPoint
from fl.subgroups import Subgroup
from privacy.plan import PrivacyPlan
from tasks.evaluate import RoundEvaluation, evaluate, headline
from tasks.gather import GatheredSum

SUBGROUPS = (
    Subgroup(name="sex", groups=("f", "m")),
    Subgroup(name="age (years)", bands=(0, 50, 120)),
)
PLAN = PrivacyPlan(
    clip_norm=1,
    noise_multiplier=1,
    sampling_rate=1,
    expected_batch_size=10,
    evaluation_noise_multiplier=2,
    steps_per_round=1,
    rounds=2,
    delta=1e-5,
)


def opened(**changes: Any) -> Any:
    """A round, as far as its evaluation looks at it."""
    values = {"kind": "training", "evaluate": True, "plan": PLAN, "subgroups": ()} | changes
    contract = DataContract(
        columns=(NumberColumn(name="x", minimum=0, maximum=1),),
        label=Label(name="y"),
        subgroups=values.pop("subgroups"),
    )
    point = values.pop("operating_point", OperatingPoint())
    model = SimpleNamespace(contract=contract, operating_point=point)
    return SimpleNamespace(invitation=SimpleNamespace(**values, model=model))


def gathered(counts: np.ndarray) -> GatheredSum:
    return GatheredSum(np.zeros(0, np.float32), 3, counts)


def measured(counts: np.ndarray, **changes: Any) -> RoundEvaluation:
    evaluation = evaluate.fn(opened(**changes), gathered(counts))
    assert evaluation is not None
    return evaluation


def test_the_figures_are_those_of_all_hospitals_rows_together() -> None:
    generator = np.random.default_rng(0)
    scores = generator.choice(EDGES, (3, 50))
    scores[scores == 1] = 0.95  # the last bin is one value
    labels = generator.integers(0, 2, (3, 50))
    summed = sum(map(score_histogram, scores, labels), ScoreHistogram.empty())

    evaluation = measured(summed.counts())
    metrics = evaluation.metrics()
    called = scores >= 0.5
    assert metrics["auc"] == pytest.approx(roc_auc_score(labels.ravel(), scores.ravel()))
    assert metrics["accuracy"] == pytest.approx((called == labels).mean())
    assert metrics["sensitivity"] == pytest.approx(called[labels == 1].mean())
    assert metrics["specificity"] == pytest.approx((~called)[labels == 0].mean())
    assert metrics["ppv"] == pytest.approx(labels[called].mean())
    assert metrics["npv"] == pytest.approx(1 - labels[~called].mean())
    assert metrics["held_out"] == 150
    assert set(metrics) >= {"average_precision", "ece", "brier", "auc_low", "auc_high"}
    assert evaluation.roc is not None
    assert evaluation.roc.tpr[-1] == evaluation.roc.fpr[-1] == 1.0
    assert evaluation.precision_recall is not None


def test_the_interval_reckons_with_the_noise_of_all_hospitals() -> None:
    counts = score_histogram(np.linspace(0, 1, 150), np.arange(150) > 70).counts()
    evaluation = measured(counts)
    assert evaluation.noise_std == pytest.approx(2 * math.sqrt(3))
    assert evaluation.interval == auc_interval(counts, noise_std=evaluation.noise_std)
    metrics = evaluation.metrics()
    assert metrics["auc_low"] < metrics["auc"] <= metrics["auc_high"]


def test_figures_are_read_at_the_model_s_operating_point() -> None:
    counts = score_histogram(np.linspace(0, 1, 150), np.arange(150) > 30).counts()
    point = OperatingPoint(least_sensitivity=0.99)
    evaluation = measured(counts, operating_point=point)
    assert evaluation.metrics()["sensitivity"] >= 0.99
    assert evaluation.figures.threshold == 0.2
    assert measured(counts).figures.threshold == 0.5


@pytest.fixture
def of_groups() -> np.ndarray:
    """3,000 rows, of women scored perfectly and of men by chance; ages alike."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 3000)
    groups = generator.integers(0, 2, (3000, 2)).astype(np.int8)
    scores = np.where(groups[:, 0] == 0, labels, generator.random(3000))
    return encode(scores, labels, groups, subgroups=SUBGROUPS)


def test_a_closing_evaluation_compares_groups(of_groups: np.ndarray) -> None:
    evaluation = measured(of_groups, kind="evaluation", subgroups=SUBGROUPS)
    assert [subgroup.name for subgroup in evaluation.subgroups] == ["sex", "age (years)"]
    women, men = evaluation.subgroups[0].groups
    assert women.figures is not None
    assert men.figures is not None
    assert (women.figures.auc, men.figures.auc) == (1, pytest.approx(0.5, abs=0.05))
    metrics = evaluation.metrics()
    assert metrics["gap_auc_sex"] == women.figures.auc - men.figures.auc
    assert metrics["gap_auc_age _years_"] < 0.05
    assert {f"gap_{name}_sex" for name in ("sensitivity", "specificity")} <= set(metrics)
    for name in metrics:
        _validate_metric_name(name)
    assert evaluation.noise_std == pytest.approx(count_noise_std(PLAN, subgroups=2) * math.sqrt(3))


def test_groups_are_read_at_the_threshold_of_the_whole(of_groups: np.ndarray) -> None:
    point = OperatingPoint(least_sensitivity=0.9)
    evaluation = measured(of_groups, kind="evaluation", subgroups=SUBGROUPS, operating_point=point)
    thresholds = {
        group.figures.threshold
        for subgroup in evaluation.subgroups
        for group in subgroup.groups
        if group.figures is not None
    }
    assert thresholds == {evaluation.figures.threshold} != {0.5}


def test_names_that_mlflow_would_take_for_one_are_numbered(of_groups: np.ndarray) -> None:
    alike = tuple(
        subgroup.model_copy(update={"name": name})
        for subgroup, name in zip(SUBGROUPS, ("age?", "age!"), strict=True)
    )
    metrics = measured(of_groups, kind="evaluation", subgroups=alike).metrics()
    assert {"gap_auc_age__1", "gap_auc_age__2"} <= set(metrics)


def test_a_training_round_compares_no_groups(of_groups: np.ndarray) -> None:
    with pytest.raises(ModelError, match="score counts: shape"):
        measured(of_groups, subgroups=SUBGROUPS)
    assert measured(of_groups[:16], subgroups=SUBGROUPS).subgroups == ()


def test_a_round_that_does_not_evaluate_has_no_figures() -> None:
    nothing = gathered(np.zeros(0, np.int64))
    assert evaluate.fn(opened(evaluate=False), nothing) is None
    with pytest.raises(ModelError, match="score counts"):
        evaluate.fn(opened(), nothing)


@pytest.mark.parametrize(
    ("label", "without"),
    [(0, {"auc", "sensitivity"}), (1, {"auc", "specificity"})],
    ids=["no positive rows", "no negative rows"],
)
def test_without_a_class_there_is_no_curve_and_no_auc_and_no_error(
    label: int, without: set[str]
) -> None:
    evaluation = measured(score_histogram(np.linspace(0, 1, 9), np.full(9, label)).counts())
    assert evaluation.roc is None
    assert evaluation.interval is None
    assert (evaluation.precision_recall is None) == (label == 0)
    assert not without & set(evaluation.metrics())
    assert "accuracy" in evaluation.metrics()


@pytest.mark.parametrize("point", [OperatingPoint(), OperatingPoint(least_sensitivity=0.9)])
def test_without_held_out_rows_there_are_no_figures_and_no_error(point: OperatingPoint) -> None:
    evaluation = measured(
        encode([], [], np.zeros((0, 2), np.int8), subgroups=SUBGROUPS),
        kind="evaluation",
        subgroups=SUBGROUPS,
        operating_point=point,
    )
    assert evaluation.metrics() == {"held_out": 0}
    assert evaluation.roc is None


def test_a_line_has_room_for_the_figures_that_matter_most() -> None:
    assert headline({"brier": 0.1, "accuracy": 0.8, "auc": 0.91234, "auc_low": 0.85}) == (
        "auc 0.912, auc_low 0.850, accuracy 0.800"
    )
    assert headline({}) == ""
