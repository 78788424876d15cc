"""Aggregating a round: the mean update goes through the training's course."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE

from fl.records import encode_record
from fl.weights import encode_weights
from tasks.cohort import OpenedRound
from tasks.coordinator import Coordinator
from tasks.gather import GatheredSum


@dataclass(frozen=True, slots=True)
class Aggregated:
    """SHA-256, hex, of the weights and the strategy's state that a round leaves behind."""

    weights: str
    strategy_state: str


@task(name="aggregate", cache_policy=NO_CACHE, persist_result=False)
def aggregate(coordinator: Coordinator, opened: OpenedRound, gathered: GatheredSum) -> Aggregated:
    """Turns the mean update into new weights and keeps both, with the strategy's state."""
    asked = opened.course.configure(opened.state, hospitals=len(opened.hospital_ids))
    outcome = opened.course.aggregate(
        opened.state, asked, mean_update=gathered.mean_update, hospitals=gathered.weight
    )
    return Aggregated(
        weights=coordinator.blobs.put(encode_weights(outcome.state.weights)),
        strategy_state=coordinator.blobs.put(encode_record(outcome.state.strategy_state)),
    )
