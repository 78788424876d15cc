"""Flower's strategies: built as specified, restored bit by bit, refused where a sum is no use."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from fl.averaged import AveragedDescent
from fl.errors import StrategyError
from fl.grid import CohortTransport, TransportGrid
from fl.records import decode_record, encode_record
from fl.strategies import build_strategy, refuse_individual, restore_state, save_state
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

SPECS = [
    FedAvg(),
    FedAvgM(server_learning_rate=0.7, server_momentum=0.9),
    FedAdam(eta=0.05, beta_1=0.9, beta_2=0.99, tau=1e-3),
    FedYogi(eta=0.05, beta_1=0.9, beta_2=0.99, tau=1e-2),
    FedAdagrad(eta=0.05, tau=1e-2),
    FedProx(proximal_mu=0.1),
    Averaged(step=1.0, average_from=0.25),
]


class Unknown(flower.FedAvg):
    """A strategy that this project knows nothing of."""


ids = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="flwr")


def record(seed: int) -> ArrayRecord:
    rng = np.random.default_rng(seed)
    shapes = {"z.weight": (2, 3), "a.bias": (2,), "scale": ()}
    return ArrayRecord(
        {
            name: Array(np.asarray(rng.normal(size=shape), np.float32))
            for name, shape in shapes.items()
        }
    )


def configured(strategy: flower.Strategy, arrays: ArrayRecord, number: int) -> Message:
    (message,) = strategy.configure_train(
        number, arrays, ConfigRecord(), TransportGrid(CohortTransport())
    )
    return message


def aggregated(strategy: flower.Strategy, message: Message, number: int) -> ArrayRecord:
    content = RecordDict(
        {"arrays": record(100 + number), "metrics": MetricRecord({"num-examples": 3})}
    )
    arrays, _ = strategy.aggregate_train(number, [Message(content, reply_to=message)])
    assert arrays is not None
    return arrays


def bits(record: ArrayRecord) -> list[tuple[str, str, bytes]]:
    return [(name, a.dtype, a.numpy().tobytes()) for name, a in record.items()]


def test_each_spec_builds_its_class_flower_s_own_unmodified() -> None:
    built = [build_strategy(spec) for spec in SPECS]
    assert [type(strategy) for strategy in built] == [
        flower.FedAvg,
        flower.FedAvgM,
        flower.FedAdam,
        flower.FedYogi,
        flower.FedAdagrad,
        flower.FedProx,
        AveragedDescent,
    ]
    _, momentum, adam, yogi, adagrad, prox, averaged = built
    assert (momentum.server_learning_rate, momentum.server_momentum) == (0.7, 0.9)
    assert (adam.eta, adam.beta_1, adam.beta_2, adam.tau) == (0.05, 0.9, 0.99, 1e-3)
    assert (yogi.eta, yogi.beta_1, yogi.beta_2, yogi.tau) == (0.05, 0.9, 0.99, 1e-2)
    assert (adagrad.eta, adagrad.tau) == (0.05, 1e-2)
    assert (averaged.place, averaged.average_after) == (0, 0)
    assert prox.proximal_mu == 0.1


@ids
def test_a_strategy_addresses_the_cohort_as_one_node(spec: StrategySpec) -> None:
    message = configured(build_strategy(spec), record(0), 1)
    assert bits(message.content["arrays"]) == bits(record(0))
    assert ("proximal-mu" in message.content["config"]) == (spec.kind == "fedprox")


@ids
@pytest.mark.parametrize("moment", ["between rounds", "within a round"])
def test_a_restored_strategy_goes_on_bit_by_bit(spec: StrategySpec, moment: str) -> None:
    first, arrays = build_strategy(spec), record(0)
    for number in (1, 2):
        arrays = aggregated(first, configured(first, arrays, number), number)

    second = build_strategy(spec)
    message = configured(first, arrays, 3) if moment == "within a round" else None
    restore_state(second, decode_record(encode_record(save_state(first))))
    message_1 = message or configured(first, arrays, 3)
    message_2 = message or configured(second, arrays, 3)
    assert bits(aggregated(second, message_2, 3)) == bits(aggregated(first, message_1, 3))
    assert encode_record(save_state(second)) == encode_record(save_state(first))


@ids
def test_the_state_matters_only_where_a_strategy_remembers(spec: StrategySpec) -> None:
    # In the fourth of four rounds averaged descent stands elsewhere than at its iterate.
    first, fresh = (build_strategy(spec, place=3, rounds=4) for _ in range(2))
    arrays = record(0)
    arrays = aggregated(first, configured(first, arrays, 1), 1)
    with_state = bits(aggregated(first, configured(first, arrays, 2), 2))
    without = bits(aggregated(fresh, configured(fresh, arrays, 2), 2))
    assert (with_state == without) == (spec.kind in ("fedavg", "fedprox"))


@ids
def test_a_fresh_strategy_has_no_state_and_an_empty_state_makes_it_fresh(
    spec: StrategySpec,
) -> None:
    strategy = build_strategy(spec)
    assert not save_state(strategy)
    aggregated(strategy, configured(strategy, record(0), 1), 1)
    restore_state(strategy, RecordDict())
    assert not save_state(strategy)


def test_a_saved_state_does_not_follow_the_strategy() -> None:
    strategy = build_strategy(SPECS[1])
    arrays = aggregated(strategy, configured(strategy, record(0), 1), 1)
    saved = save_state(strategy)
    before = encode_record(saved)
    aggregated(strategy, configured(strategy, arrays, 2), 2)
    assert encode_record(saved) == before
    assert set(saved) == {"current", "momentum"}


@pytest.mark.parametrize("keeper", [SPECS[1], SPECS[2], SPECS[-1]], ids=lambda spec: spec.kind)
@pytest.mark.parametrize("other", SPECS, ids=lambda spec: spec.kind)
def test_the_state_of_another_strategy_is_refused(
    keeper: StrategySpec, other: StrategySpec
) -> None:
    strategy = build_strategy(keeper)
    aggregated(strategy, configured(strategy, record(0), 1), 1)
    state, taker = save_state(strategy), build_strategy(other)
    adaptive = ("fedadam", "fedyogi", "fedadagrad")  # they remember the same
    if keeper is other or {keeper.kind, other.kind} <= set(adaptive):
        restore_state(taker, state)
        return
    with pytest.raises(StrategyError, match="state of another strategy"):
        restore_state(taker, state)
    assert not save_state(taker)


def test_a_momentum_of_other_weights_is_refused() -> None:
    state = RecordDict({"momentum": record(1)})
    with pytest.raises(StrategyError, match="different weights"):
        restore_state(build_strategy(SPECS[1]), state)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("krum", "compares"),
        ("Multi-Krum", "compares"),
        ("bulyan", "compares"),
        ("fed_median", "sorts"),
        ("FedTrimmedAvg", "sorts"),
        ("qfedavg", "own loss"),
        ("DifferentialPrivacyServerSideFixedClipping", "clips"),
        ("FedXgbBagging", "trees"),
    ],
)
def test_what_needs_individual_updates_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(StrategyError, match=rf"{name}.*{reason}.*only their mean"):
        refuse_individual(name)


@pytest.mark.parametrize(
    "name", ["averaged", "fedavg", "FedAvgM", "fedadam", "fedyogi", "FedAdagrad", "fedprox"]
)
def test_what_runs_on_the_mean_is_not_refused(name: str) -> None:
    refuse_individual(name)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [(flower.FedMedian(), "sorts"), (Unknown(), "Unknown.*does not know")],
)
def test_the_state_of_a_strategy_not_built_here_is_refused(
    strategy: flower.Strategy, message: str
) -> None:
    with pytest.raises(StrategyError, match=message):
        save_state(strategy)
    with pytest.raises(StrategyError, match=message):
        restore_state(strategy, RecordDict())


def test_a_refusal_names_what_can_run_instead() -> None:
    with pytest.raises(
        StrategyError, match=r"averaged, fedavg, .*, fedyogi, fedadagrad or fedprox"
    ):
        refuse_individual("krum")
