"""A whole training over a transport: Flower's loop, with the two halves of the deployed rounds.

    history = run_rounds(strategy, LocalTransport(apps), initial, rounds=10)
    history.closing.auc

For tests and simulation: here every node's reply is seen, there the secure sum shows only the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from fl.arrays import record_of, weights_in
from fl.errors import RoundError
from fl.evaluation import Evaluation, ScoreHistogram, evaluate
from fl.evaluation.counts import COUNTS
from fl.grid import Transport, TransportGrid
from fl.rounds import (
    ARRAYS,
    CONFIG,
    METRICS,
    ROUND,
    WEIGHT,
    RoundOutcome,
    RoundPlan,
    RoundState,
    aggregate,
    configure,
)
from fl.weights import Weights, flatten, layout


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The rounds of a training.

    Attributes:
        outcomes: one for each round, in order; its metrics are those of its incoming weights.
        closing: figures of the final weights.
    """

    outcomes: tuple[RoundOutcome, ...]
    closing: Evaluation

    @property
    def weights(self) -> Weights:
        """The final weights."""
        return self.outcomes[-1].state.weights


def run_rounds(
    strategy: Strategy,
    transport: Transport,
    initial: Weights,
    *,
    rounds: int,
    timeout_s: float | None = None,
) -> History:
    """Runs a training over a transport whose nodes answer ``train`` and ``evaluate``.

    Each round evaluates the weights it starts from, as the deployed rounds do, and the last
    weights are evaluated at the end.

    Args:
        strategy: as `fl.strategies.build_strategy` made it.
        transport: reaches the nodes.
        initial: the weights to start from.
        rounds: rounds to run, at least 1.
        timeout_s: seconds for the replies to each exchange.

    Raises:
        RoundError: a node that fails or stays silent, named with its reason.
    """
    if rounds < 1:
        raise RoundError(f"rounds {rounds}: at least 1 is needed")
    grid = TransportGrid(transport)
    state, outcomes = RoundState(1, initial), []
    for _ in range(rounds):
        plan = configure(strategy, state)
        evaluation = _evaluated(grid, plan.number, plan.weights, timeout_s)
        mean_update, weight = _trained(grid, plan, timeout_s)
        outcome = aggregate(
            strategy, plan, mean_update=mean_update, weight=weight, evaluation=evaluation
        )
        outcomes.append(outcome)
        state = outcome.state
    closing = _evaluated(grid, state.number, state.weights, timeout_s)
    return History(tuple(outcomes), closing)


def _trained(
    grid: TransportGrid, plan: RoundPlan, timeout_s: float | None
) -> tuple[NDArray[np.float32], int]:
    """Returns the weighted mean update of all nodes and the sum of their weights."""
    config = ConfigRecord({ROUND: plan.number, **plan.train_config})
    content = RecordDict({ARRAYS: record_of(plan.weights), CONFIG: config})
    incoming = flatten(plan.weights).astype(np.float64)
    total, weight = np.zeros_like(incoming), 0
    for node, reply in _ask(grid, MessageType.TRAIN, content, timeout_s):
        arrays = reply.array_records.get(ARRAYS)
        share = reply.metric_records.get(METRICS, MetricRecord()).get(WEIGHT)
        if arrays is None or not isinstance(share, int):
            raise RoundError(f"node {node}: a reply without {ARRAYS!r} or {WEIGHT!r}")
        if share < 1:
            raise RoundError(f"node {node}: weight {share}, at least 1 is needed")
        try:
            trained = flatten(weights_in(arrays, like=layout(plan.weights)))
        except RoundError as error:
            raise RoundError(f"node {node}: {error}") from error
        total += share * (trained - incoming)
        weight += share
    return (total / weight).astype(np.float32), weight


def _evaluated(
    grid: TransportGrid, number: int, weights: Weights, timeout_s: float | None
) -> Evaluation:
    content = RecordDict({ARRAYS: record_of(weights), CONFIG: ConfigRecord({ROUND: number})})
    histogram = ScoreHistogram.empty()
    for node, reply in _ask(grid, MessageType.EVALUATE, content, timeout_s):
        metrics = reply.metric_records.get(METRICS)
        if metrics is None or COUNTS not in metrics:
            raise RoundError(f"node {node}: a reply without its score counts")
        histogram += ScoreHistogram.from_counts(np.asarray(metrics[COUNTS]))
    return evaluate(histogram)


def _ask(
    grid: TransportGrid, kind: str, content: RecordDict, timeout_s: float | None
) -> list[tuple[int, RecordDict]]:
    """Sends one content to all nodes; raises unless all of them answer with content."""
    nodes = grid.get_node_ids()
    if not nodes:
        raise RoundError(f"{kind}: there is no node to ask")
    messages = [Message(content, node, kind) for node in nodes]
    replies = {
        reply.metadata.src_node_id: reply
        for reply in grid.send_and_receive(messages, timeout=timeout_s)
    }
    failed = [
        f"node {node}: {replies[node].error.reason if node in replies else 'no reply'}"
        for node in nodes
        if node not in replies or replies[node].has_error()
    ]
    if failed:
        raise RoundError(f"{kind}: {'; '.join(failed)}")
    return [(node, replies[node].content) for node in nodes]
