"""The logic of a round, in two halves.

    plan = configure(strategy, state)                    # what the hospitals are told
    …                                                    # dispatch, gather, unmask
    outcome = aggregate(strategy, plan, mean_update=mean, weight=survivors)

Between the halves the coordinator's tasks speak to the hospitals; `fl.simulation` has a grid there.
Both halves are pure: all that a strategy remembers goes in and out as a value, so that either half
can be repeated, in another process too, with the same result. A strategy sees one reply, the
cohort's mean; a test holds that to Flower's own loop over single replies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from fl.arrays import record_of, weights_in
from fl.errors import RoundError
from fl.evaluation import Evaluation
from fl.grid import (
    COHORT_NODE,
    CohortTransport,
    TransportGrid,
)
from fl.strategies import restore_state, save_state
from fl.weights import Weights, flatten, layout, unflatten

ARRAYS: Final = "arrays"
CONFIG: Final = "config"
METRICS: Final = "metrics"
WEIGHT: Final = "num-examples"
ROUND: Final = "server-round"


@dataclass(frozen=True, slots=True, eq=False)
class RoundState:
    """Where a round starts.

    Attributes:
        number: the round's number in its training, from 1.
        weights: the incoming weights.
        strategy_state: what the strategy remembers of the rounds before; empty for the first.
    """

    number: int
    weights: Weights
    strategy_state: RecordDict = field(default_factory=RecordDict)


@dataclass(frozen=True, slots=True, eq=False)
class RoundPlan:
    """What the strategy asks of the cohort.

    Attributes:
        number: the round's number.
        weights: the weights from which the hospitals train.
        train_config: scalars for the hospital's training, such as ``proximal-mu``.
        strategy_state: what the strategy remembers until the mean update is there.
    """

    number: int
    weights: Weights
    train_config: dict[str, float]
    strategy_state: RecordDict


@dataclass(frozen=True, slots=True, eq=False)
class RoundOutcome:
    """What a round leaves behind.

    Attributes:
        state: where the next round starts.
        metrics: figures of the weights with which this round started, by name.
    """

    state: RoundState
    metrics: dict[str, float]


def configure(strategy: Strategy, state: RoundState) -> RoundPlan:
    """Asks the strategy what to send to the cohort.

    Args:
        strategy: as `fl.strategies.build_strategy` made it; what it remembers is replaced.
        state: where the round starts.

    Raises:
        RoundError: the strategy's state and the weights differ in names or shapes, or the strategy
            asks nothing of the cohort.
        StrategyError: the state of another strategy.
    """
    expected = layout(state.weights)
    shapes = dict(zip(expected.names, expected.shapes, strict=True))
    for part, record in state.strategy_state.array_records.items():
        if {name: tuple(array.shape) for name, array in record.items()} != shapes:
            raise RoundError(f"round {state.number}: strategy state {part!r} is of other weights")
    restore_state(strategy, state.strategy_state)
    messages = list(
        strategy.configure_train(
            state.number, record_of(state.weights), ConfigRecord(), TransportGrid(CohortTransport())
        )
    )
    if len(messages) != 1:
        raise RoundError(f"round {state.number}: {len(messages)} messages to the cohort, not one")
    config = messages[0].content.config_records.get(CONFIG, ConfigRecord())
    return RoundPlan(
        number=state.number,
        weights=weights_in(messages[0].content.array_records[ARRAYS], like=expected),
        train_config={name: _scalar(name, v) for name, v in config.items() if name != ROUND},
        strategy_state=save_state(strategy),
    )


def aggregate(
    strategy: Strategy,
    plan: RoundPlan,
    *,
    mean_update: NDArray[np.floating],
    weight: int,
    evaluation: Evaluation | None = None,
) -> RoundOutcome:
    """Hands the cohort's mean to the strategy as one reply.

    Args:
        strategy: as `fl.strategies.build_strategy` made it; what it remembers is replaced.
        plan: what `configure` returned.
        mean_update: weighted mean of the hospitals' weights less the plan's, float, shape (p,), in
            the order of `fl.weights.flatten`.
        weight: sum of the hospitals' weights in that mean, at least 1.
        evaluation: figures of the plan's weights, if the round measured them.

    Raises:
        RoundError: an update of another size, values that are not finite, no weight, or a strategy
            that makes no usable weights of it.
    """
    reply = record_of(_updated(plan, mean_update=mean_update, weight=weight))
    restore_state(strategy, plan.strategy_state)
    arrays, _ = strategy.aggregate_train(
        plan.number, [_cohort_reply(MessageType.TRAIN, {WEIGHT: weight}, arrays=reply)]
    )
    if arrays is None:
        raise RoundError(f"round {plan.number}: the strategy returned no weights")
    weights = weights_in(arrays, like=layout(plan.weights))
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise RoundError(f"round {plan.number}: the strategy's weights are not finite")
    return RoundOutcome(
        state=RoundState(plan.number + 1, weights, save_state(strategy)),
        metrics=_metrics(strategy, plan, weight=weight, evaluation=evaluation),
    )


def _updated(plan: RoundPlan, *, mean_update: NDArray[np.floating], weight: int) -> Weights:
    incoming = flatten(plan.weights)
    if mean_update.shape != incoming.shape:
        raise RoundError(
            f"round {plan.number}: mean update of shape {mean_update.shape}, "
            f"expected {incoming.shape}"
        )
    if not np.all(np.abs(mean_update) <= np.finfo(np.float32).max):
        raise RoundError(f"round {plan.number}: the mean update is not finite in float32")
    if weight < 1:
        raise RoundError(f"round {plan.number}: weight {weight}, at least 1 is needed")
    return unflatten(incoming + mean_update.astype(np.float32), layout(plan.weights))


def _metrics(
    strategy: Strategy, plan: RoundPlan, *, weight: int, evaluation: Evaluation | None
) -> dict[str, float]:
    if evaluation is None:
        return {}
    reply = _cohort_reply(MessageType.EVALUATE, {WEIGHT: weight, **evaluation.metrics()})
    metrics = strategy.aggregate_evaluate(plan.number, [reply])
    return {} if metrics is None else {name: _scalar(name, v) for name, v in metrics.items()}


def _cohort_reply(
    kind: str, metrics: Mapping[str, float], *, arrays: ArrayRecord | None = None
) -> Message:
    content = RecordDict({METRICS: MetricRecord(dict(metrics))})
    if arrays is not None:
        content[ARRAYS] = arrays
    return Message(content, reply_to=Message(RecordDict(), COHORT_NODE, kind))


def _scalar(name: str, value: object) -> float:
    if isinstance(value, int | float):
        return float(value)
    raise RoundError(f"{name!r} from the strategy is {type(value).__name__}, not a number")
