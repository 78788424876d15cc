"""The simulated training: equal to Flower's own loop over single replies, failures named."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fl.arrays import record_of, weights_in
from fl.errors import RoundError
from fl.evaluation import ScoreHistogram, evaluate, score_histogram
from fl.grid import LocalTransport, TransportGrid
from fl.simulation import run_rounds
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
from fl.weights import Weights, flatten, layout, unflatten

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


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="flwr")


def hospital(number: int, *, weight: int = 1, seen: list[ConfigRecord] | None = None) -> ClientApp:
    """A node that pulls the weights towards its own target, less so under a proximal term."""
    target = np.linspace(-1, 1, SIZE, dtype=np.float32) * number
    labels = np.arange(20) % 2
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        config = message.content.config_records["config"]
        if seen is not None:
            seen.append(config)
        incoming = flatten(weights_in(message.content.array_records["arrays"], like=LAYOUT))
        rate = np.float32(0.3 / (1 + float(config.get("proximal-mu", 0.0))))  # type: ignore[arg-type]
        trained = unflatten(incoming + rate * (target - incoming), LAYOUT)
        metrics = MetricRecord({"num-examples": weight})
        return Message(
            RecordDict({"arrays": record_of(trained), "metrics": metrics}), reply_to=message
        )

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        vector = flatten(weights_in(message.content.array_records["arrays"], like=LAYOUT))
        pull = float(np.tanh(vector @ target)) / 4
        scores = 0.5 + pull * np.linspace(-1, 1, 20) + 0.2 * (labels - 0.5)
        histogram = score_histogram(scores, labels)
        metrics = MetricRecord({"num-examples": 1, "counts": histogram.counts().tolist()})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def hospitals(weights: tuple[int, ...] = (1, 1, 1)) -> LocalTransport:
    return LocalTransport({10 + n: hospital(n, weight=w) for n, w in enumerate(weights, start=1)})


@every_strategy
@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 1, 1, 1, 1), (1, 5, 2)])
def test_the_mean_as_one_reply_gives_what_flower_makes_of_single_replies(
    spec: StrategySpec, weights: tuple[int, ...]
) -> None:
    rounds = 6
    history = run_rounds(build_strategy(spec), hospitals(weights), INITIAL, rounds=rounds)

    states = [record_of(INITIAL)]
    result = build_strategy(spec).start(
        TransportGrid(hospitals(weights)),
        record_of(INITIAL),
        num_rounds=rounds,
        evaluate_fn=lambda number, arrays: states.append(arrays) if number else None,
    )
    assert len(history.outcomes) == rounds == len(states) - 1
    for outcome, arrays in zip(history.outcomes, states[1:], strict=True):
        np.testing.assert_allclose(
            flatten(outcome.state.weights),
            flatten(weights_in(arrays, like=LAYOUT)),
            rtol=2e-6,
            atol=1e-6,
        )
    assert np.abs(flatten(history.weights) - flatten(INITIAL)).max() > 0.05

    # Flower evaluates after a round what the next round here starts from.
    flower_counts = result.evaluate_metrics_clientapp
    ours = [o.metrics for o in history.outcomes[1:]] + [history.closing.metrics()]
    for number, figures in enumerate(ours, start=1):
        counts = np.asarray(flower_counts[number]["counts"])
        summed = ScoreHistogram.from_counts(np.rint(counts * len(weights)))
        assert figures == pytest.approx(evaluate(summed).metrics(), abs=0.02)


def test_the_nodes_are_told_the_round_and_what_the_strategy_adds() -> None:
    seen: list[ConfigRecord] = []
    transport = LocalTransport({1: hospital(1, seen=seen)})
    run_rounds(build_strategy(FedProx(proximal_mu=0.25)), transport, INITIAL, rounds=2)
    assert [dict(config) for config in seen] == [
        {"server-round": 1, "proximal-mu": 0.25},
        {"server-round": 2, "proximal-mu": 0.25},
    ]


def failing(kind: str) -> ClientApp:
    app = hospital(1)
    broken = ClientApp()

    @broken.train()
    def train(message: Message, context: Context) -> Message:
        match kind:
            case "error":
                return Message(Error(0, "disk full"), reply_to=message)
            case "no arrays":
                metrics = MetricRecord({"num-examples": 1})
                return Message(RecordDict({"metrics": metrics}), reply_to=message)
            case "other arrays":
                reply = app(message, context)
                reply.content["arrays"] = record_of({"w": INITIAL["w"]})
                return reply
            case "weightless":
                reply = app(message, context)
                reply.content["metrics"] = MetricRecord({"num-examples": 0})
                return reply
        return app(message, context)

    @broken.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        if kind == "no counts":
            return Message(RecordDict({"metrics": MetricRecord({"loss": 1.0})}), reply_to=message)
        return app(message, context)

    return broken


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("error", "train: node 5: disk full"),
        ("no arrays", "node 5: a reply without"),
        ("other arrays", "node 5: arrays that differ"),
        ("weightless", "node 5: weight 0"),
        ("no counts", "node 5: a reply without its score counts"),
    ],
)
def test_a_node_that_fails_is_named(kind: str, message: str) -> None:
    transport = LocalTransport({1: hospital(1), 5: failing(kind)})
    with pytest.raises(RoundError, match=message):
        run_rounds(build_strategy(FedAvg()), transport, INITIAL, rounds=1)


def test_a_silent_node_is_named_with_the_limit() -> None:
    ticks = iter([0.0, 0.0, 99.0])
    transport = LocalTransport({1: hospital(1), 2: hospital(2)}, clock=lambda: next(ticks))
    with pytest.raises(RoundError, match="evaluate: node 2: no reply within 5 s"):
        run_rounds(build_strategy(FedAvg()), transport, INITIAL, rounds=1, timeout_s=5)


def test_a_training_needs_rounds_and_nodes() -> None:
    with pytest.raises(RoundError, match="rounds 0"):
        run_rounds(build_strategy(FedAvg()), hospitals(), INITIAL, rounds=0)
    with pytest.raises(RoundError, match="no node to ask"):
        run_rounds(build_strategy(FedAvg()), LocalTransport({}), INITIAL, rounds=1)
