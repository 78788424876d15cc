"""Aggregating a round: the mean update goes through the training's Flower strategy."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE

from fl.records import encode_record
from fl.rounds import aggregate as aggregate_round
from fl.rounds import configure
from fl.strategies import build_strategy
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
    strategy = build_strategy(opened.strategy)
    plan = configure(strategy, opened.state)
    outcome = aggregate_round(
        strategy, plan, mean_update=gathered.mean_update, weight=gathered.weight
    )
    return Aggregated(
        weights=coordinator.blobs.put(encode_weights(outcome.state.weights)),
        strategy_state=coordinator.blobs.put(encode_record(outcome.state.strategy_state)),
    )
