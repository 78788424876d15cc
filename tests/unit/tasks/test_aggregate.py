"""Aggregating: the mean update becomes new weights, kept with the strategy's state."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from db.blobs import BlobStore
from fl.architecture_spec import Logistic
from fl.contract import DataContract, Label, NumberColumn
from fl.course import Course
from fl.errors import RoundError
from fl.records import decode_record
from fl.rounds import RoundState
from fl.spec import ModelSpec
from fl.strategy_spec import FedAdam, FedAvg, FedAvgM, StrategySpec
from fl.weights import decode_weights
from privacy.calibration import plan_for
from privacy.plan import PrivacyRequest
from tasks.aggregate import aggregate
from tasks.gather import GatheredSum

WEIGHTS = {"b": np.array([1.0, 2.0], np.float32), "w": np.array([[0.5]], np.float32)}
SPEC = ModelSpec(
    name="m",
    architecture=Logistic(standardise=False),
    contract=DataContract(
        columns=(NumberColumn(name="x", minimum=0, maximum=1),), label=Label(name="y")
    ),
)
PLAN = plan_for(PrivacyRequest(epsilon=8), rounds=2)
UPDATE = np.array([0.25, -0.25, 0.5], np.float32)


def opened(strategy: StrategySpec, state: RoundState | None = None) -> Any:
    return SimpleNamespace(
        course=Course(SPEC, PLAN, strategy),
        state=state or RoundState(1, WEIGHTS),
        hospital_ids=("a", "b", "c"),
    )


def gathered(update: Any = UPDATE, *, weight: int = 3) -> GatheredSum:
    return GatheredSum(update, weight, np.zeros(0, np.int64))


def test_the_mean_update_is_added_to_the_weights(blobs: BlobStore) -> None:
    left = aggregate.fn(SimpleNamespace(blobs=blobs), opened(FedAvg()), gathered())
    weights = decode_weights(blobs.get(left.weights))
    assert weights["b"].tolist() == [1.25, 1.75]
    assert weights["w"].tolist() == [[1.0]]
    assert list(decode_record(blobs.get(left.strategy_state))) == ["course"]


@pytest.mark.parametrize("strategy", [FedAvgM(), FedAdam()])
def test_what_a_strategy_remembers_is_kept_for_the_next_round(
    blobs: BlobStore, strategy: StrategySpec
) -> None:
    coordinator: Any = SimpleNamespace(blobs=blobs)
    first = aggregate.fn(coordinator, opened(strategy), gathered())
    kept = decode_record(blobs.get(first.strategy_state))
    assert "current" in kept
    weights = decode_weights(blobs.get(first.weights))
    going_on = aggregate.fn(coordinator, opened(strategy, RoundState(2, weights, kept)), gathered())
    afresh = aggregate.fn(coordinator, opened(strategy, RoundState(2, weights)), gathered())
    assert going_on.weights != afresh.weights


def test_aggregating_again_leaves_the_same(blobs: BlobStore) -> None:
    coordinator: Any = SimpleNamespace(blobs=blobs)
    first = aggregate.fn(coordinator, opened(FedAdam()), gathered())
    assert aggregate.fn(coordinator, opened(FedAdam()), gathered()) == first


@pytest.mark.parametrize(
    ("sum_", "why"),
    [
        (gathered(UPDATE[:2]), "shape"),
        (gathered(UPDATE, weight=0), "weight 0"),
        (gathered(np.full(3, np.nan, np.float32)), "not finite"),
    ],
)
def test_a_sum_that_makes_no_weights_is_refused(
    blobs: BlobStore, sum_: GatheredSum, why: str
) -> None:
    with pytest.raises(RoundError, match=why):
        aggregate.fn(SimpleNamespace(blobs=blobs), opened(FedAvg()), sum_)
