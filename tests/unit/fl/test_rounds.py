"""A round in two halves: pure, checked, and the same wherever they run."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from flwr.serverapp import strategy as flower

from fl.errors import RoundError, StrategyError
from fl.evaluation import Evaluation
from fl.records import decode_record, encode_record
from fl.rounds import RoundPlan, RoundState, aggregate, configure
from fl.strategies import build_strategy
from fl.strategy_spec import (
    Averaged,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedProx,
    FedYogi,
    StrategySpec,
)
from fl.weights import Weights, flatten, layout

SPECS = [
    Averaged(step=1.0, average_from=0.0),
    FedAvg(),
    FedAvgM(server_learning_rate=0.8, server_momentum=0.5),
    FedAdam(eta=0.05, beta_1=0.9, beta_2=0.99, tau=1e-2),
    FedYogi(eta=0.05, beta_1=0.9, beta_2=0.99, tau=1e-2),
    FedAdagrad(eta=0.05, tau=1e-2),
    FedProx(proximal_mu=0.5),
]
every_strategy = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)

# Names out of order: what a strategy pairs by position must not depend on it.
INITIAL: Weights = {
    "w": np.array([[0.5, -0.25], [0.125, 1.0]], np.float32),
    "b": np.array([0.1, -0.2], np.float32),
}
LAYOUT = layout(INITIAL)
SIZE = LAYOUT.size
UPDATE = np.linspace(-0.1, 0.2, SIZE, dtype=np.float32)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="flwr")


@every_strategy
def test_each_half_can_be_repeated_elsewhere_with_the_same_result(spec: StrategySpec) -> None:
    def outcome(state: RoundState, *, fresh: bool) -> tuple[bytes, bytes]:
        strategy = build_strategy(spec)
        plan = configure(strategy, state)
        if fresh:
            strategy = build_strategy(spec)
            plan = RoundPlan(
                plan.number,
                plan.weights,
                plan.train_config,
                decode_record(encode_record(plan.strategy_state)),
            )
        for _ in range(2):
            done = aggregate(strategy, plan, mean_update=UPDATE, weight=3)
        assert done.state.number == state.number + 1
        return flatten(done.state.weights).tobytes(), encode_record(done.state.strategy_state)

    strategy, state = build_strategy(spec), RoundState(1, INITIAL)
    for _ in range(2):
        plan = configure(strategy, state)
        state = aggregate(strategy, plan, mean_update=UPDATE, weight=3).state
    assert outcome(state, fresh=False) == outcome(state, fresh=True)


def test_fedavg_adds_the_mean_update() -> None:
    strategy = build_strategy(FedAvg())
    plan = configure(strategy, RoundState(4, INITIAL))
    assert (plan.number, plan.train_config) == (4, {})
    outcome = aggregate(strategy, plan, mean_update=UPDATE, weight=3)
    np.testing.assert_array_equal(flatten(outcome.state.weights), flatten(INITIAL) + UPDATE)
    assert {a.dtype for a in outcome.state.weights.values()} == {np.dtype(np.float32)}
    assert outcome.state.number == 5
    assert outcome.metrics == {}


def test_the_hospitals_are_told_what_the_strategy_adds() -> None:
    strategy = build_strategy(FedProx(proximal_mu=0.25))
    assert configure(strategy, RoundState(1, INITIAL)).train_config == {"proximal-mu": 0.25}


def test_figures_pass_through_and_what_is_not_defined_is_left_out() -> None:
    strategy = build_strategy(FedAvg())
    plan = configure(strategy, RoundState(1, INITIAL))
    evaluation = Evaluation(accuracy=0.75, specificity=0.75, records=40, positives=0)
    outcome = aggregate(strategy, plan, mean_update=UPDATE, weight=3, evaluation=evaluation)
    assert outcome.metrics == {"accuracy": 0.75, "specificity": 0.75}


@pytest.mark.parametrize(
    ("update", "weight", "message"),
    [
        (np.zeros(SIZE - 1, np.float32), 3, r"mean update of shape \(5,\), expected \(6,\)"),
        (np.full(SIZE, np.nan, np.float32), 3, "mean update is not finite"),
        (np.full(SIZE, 1e300), 3, "mean update is not finite"),
        (UPDATE, 0, "weight 0"),
    ],
)
def test_an_update_that_is_none_is_refused(update: np.ndarray, weight: int, message: str) -> None:
    strategy = build_strategy(FedAvg())
    plan = configure(strategy, RoundState(7, INITIAL))
    with pytest.raises(RoundError, match=f"round 7: .*{message}"):
        aggregate(strategy, plan, mean_update=update, weight=weight)


def test_weights_that_leave_the_numbers_end_the_round() -> None:
    strategy = build_strategy(FedAvgM(server_learning_rate=1000, server_momentum=0))
    plan = configure(strategy, RoundState(1, INITIAL))
    with pytest.raises(RoundError, match="not finite"), np.errstate(over="ignore"):
        aggregate(strategy, plan, mean_update=np.full(SIZE, 1e38, np.float32), weight=3)


def test_a_state_of_other_weights_or_another_strategy_is_refused() -> None:
    strategy = build_strategy(FedAvgM())
    plan = configure(strategy, RoundState(1, INITIAL))
    state = aggregate(strategy, plan, mean_update=UPDATE, weight=3).state
    other = replace(state, weights={**INITIAL, "b": np.zeros(3, np.float32)})
    with pytest.raises(RoundError, match="round 2: strategy state 'current' is of other weights"):
        configure(strategy, other)
    with pytest.raises(StrategyError, match="another strategy"):
        configure(build_strategy(FedAvg()), state)


def test_a_strategy_that_asks_nothing_ends_the_round() -> None:
    silent = flower.FedAvg(fraction_train=0.0, min_evaluate_nodes=1, min_available_nodes=1)
    with pytest.raises(RoundError, match="0 messages to the cohort"):
        configure(silent, RoundState(1, INITIAL))


def test_a_strategy_that_tells_hospitals_more_than_numbers_ends_the_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strategy = build_strategy(FedProx())
    monkeypatch.setattr(strategy, "proximal_mu", "much")
    with pytest.raises(RoundError, match="'proximal-mu' from the strategy is str, not a number"):
        configure(strategy, RoundState(1, INITIAL))


def test_a_strategy_that_makes_no_weights_ends_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = build_strategy(FedAvg())
    plan = configure(strategy, RoundState(1, INITIAL))
    monkeypatch.setattr(strategy, "aggregate_train", lambda number, replies: (None, None))
    with pytest.raises(RoundError, match="returned no weights"):
        aggregate(strategy, plan, mean_update=UPDATE, weight=3)
