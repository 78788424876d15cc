"""What a hospital's ClientApp answers, and what its answers do not tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    RecordDict,
)

from fl.architecture_spec import Mlp
from fl.architectures import build, initial_weights, load_weights
from fl.client import LocalSite, client_app
from fl.contract import DataContract, Label, NumberColumn
from fl.errors import ModelError
from fl.evaluation import BINS, score_histogram
from fl.evaluation.counts import COUNTS, HISTOGRAM, WITH_SUBGROUPS, encode
from fl.scoring import scores_of_records
from fl.spec import ModelSpec
from fl.subgroups import Subgroup
from fl.table import Split, Table
from fl.training import train_locally
from fl.weights import Weights, flatten
from privacy.errors import PrivacyError
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan

SPEC = ModelSpec(
    name="model",
    architecture=Mlp(hidden=(4,)),
    contract=DataContract(
        columns=tuple(NumberColumn(name=f"x{i}", minimum=-1, maximum=1) for i in range(3)),
        label=Label(name="y"),
    ),
)
SUBGROUPS = (Subgroup(name="sex", groups=("f", "m")),)
PLAN = PrivacyPlan(
    clip_norm=1.0,
    noise_multiplier=1.0,
    sampling_rate=0.5,
    expected_batch_size=10,
    evaluation_noise_multiplier=4.0,
    steps_per_round=3,
    rounds=2,
    delta=1e-5,
)
WEIGHTS = initial_weights(SPEC, seed=1)


def table(n: int, *, seed: int = 0) -> Table:
    random = np.random.default_rng(seed)
    return Table(
        random.uniform(-1, 1, (n, 3)).astype(np.float32),
        random.integers(0, 2, n).astype(np.float32),
    )


def site(*, train: int = 20, held_out: int = 9, seed: int = 1) -> LocalSite:
    split = Split(train=table(train), held_out=table(held_out, seed=1))
    return LocalSite(SPEC, PLAN, split, SecureGenerator.seeded(seed))


def ask(
    local: LocalSite,
    kind: str,
    *,
    weights: Weights | None = WEIGHTS,
    config: dict[str, Any] | None = None,
) -> RecordDict:
    content = RecordDict({"config": ConfigRecord({"server-round": 1, **(config or {})})})
    if weights is not None:
        content["arrays"] = ArrayRecord({name: Array(value) for name, value in weights.items()})
    message = Message(content, dst_node_id=1, message_type=kind)
    context = Context(run_id=0, node_id=1, node_config={}, state=RecordDict(), run_config={})
    return client_app(local, simulated=True)(message, context).content


def arrays(content: RecordDict) -> Weights:
    return {name: array.numpy() for name, array in content.array_records["arrays"].items()}


class TestTrain:
    def test_it_answers_with_the_weights_that_training_gives(self) -> None:
        module = build(SPEC)
        load_weights(module, WEIGHTS)
        train_locally(
            module,
            site().split.train,
            plan=PLAN,
            hyperparameters=SPEC.hyperparameters,
            generator=SecureGenerator.seeded(1),
        )
        trained = arrays(ask(site(), MessageType.TRAIN))
        assert {name: a.shape for name, a in trained.items()} == {
            name: a.shape for name, a in WEIGHTS.items()
        }
        for name, tensor in module.state_dict().items():
            assert np.array_equal(trained[name], tensor.numpy())

    def test_the_incoming_weights_are_left_alone(self) -> None:
        before = flatten(WEIGHTS).copy()
        ask(site(), MessageType.TRAIN)
        assert np.array_equal(flatten(WEIGHTS), before)

    @pytest.mark.parametrize("n", [0, 1, 20, 500])
    def test_the_answer_does_not_tell_the_number_of_records(self, n: int) -> None:
        content = ask(site(train=n, held_out=n), MessageType.TRAIN)
        assert set(content) == {"arrays", "metrics"}
        assert dict(content.metric_records["metrics"]) == {"num-examples": 1}

    def test_the_proximal_term_is_taken_from_the_message(self) -> None:
        free = flatten(arrays(ask(site(), MessageType.TRAIN)))
        pulled = flatten(arrays(ask(site(), MessageType.TRAIN, config={"proximal-mu": 0.9})))
        start = flatten(WEIGHTS)
        assert np.linalg.norm(pulled - start) < np.linalg.norm(free - start)

    @pytest.mark.parametrize("mu", [-1.0, float("nan"), float("inf"), "much"])
    def test_an_absurd_proximal_term_is_refused(self, mu: object) -> None:
        with pytest.raises(ModelError, match="proximal-mu"):
            ask(site(), MessageType.TRAIN, config={"proximal-mu": mu})


class TestEvaluate:
    def test_it_counts_the_scores_on_the_held_out_rows(self) -> None:
        local = site()
        module = build(SPEC)
        load_weights(module, WEIGHTS)
        with torch.no_grad():
            logits = module(torch.from_numpy(local.split.held_out.features)).reshape(-1)
        expected = score_histogram(torch.sigmoid(logits).numpy(), local.split.held_out.labels)
        content = ask(local, MessageType.EVALUATE)
        assert set(content) == {"metrics"}
        metrics = content.metric_records["metrics"]
        assert metrics["num-examples"] == 1
        assert metrics[COUNTS] == expected.counts().tolist()

    def test_without_held_out_rows_all_counts_are_zero(self) -> None:
        metrics = ask(site(held_out=0), MessageType.EVALUATE).metric_records["metrics"]
        assert metrics[COUNTS] == [0] * (2 * BINS)

    def test_it_counts_subgroups_only_when_asked(self) -> None:
        spec = SPEC.model_copy(
            update={"contract": SPEC.contract.model_copy(update={"subgroups": SUBGROUPS})}
        )
        plain = site()
        groups = np.array([[g % 3 - 1] for g in range(9)], np.int8)
        held_out = replace(plain.split.held_out, groups=groups)
        local = replace(plain, spec=spec, split=replace(plain.split, held_out=held_out))
        module = build(spec)
        load_weights(module, WEIGHTS)
        scores = scores_of_records(module, held_out.features)
        answers = {
            asked: ask(local, MessageType.EVALUATE, config={WITH_SUBGROUPS: asked}).metric_records[
                "metrics"
            ][COUNTS]
            for asked in (0, 1)
        }
        everything = encode(scores, held_out.labels, groups, subgroups=SUBGROUPS).tolist()
        assert answers == {0: everything[:HISTOGRAM], 1: everything}
        with pytest.raises(ModelError, match="with-subgroups 2"):
            ask(local, MessageType.EVALUATE, config={WITH_SUBGROUPS: 2})
        without = replace(plain, spec=spec)
        with pytest.raises(ModelError, match="groups of shape None"):
            ask(without, MessageType.EVALUATE, config={WITH_SUBGROUPS: 1})

    def test_weights_that_diverged_are_named(self) -> None:
        diverged = {name: np.full_like(array, np.nan) for name, array in WEIGHTS.items()}
        with pytest.raises(ModelError, match="9 of 9 scores are not numbers"):
            ask(site(), MessageType.EVALUATE, weights=diverged)

    def test_extreme_logits_are_still_scores(self) -> None:
        huge = {name: np.full_like(array, 1e10) for name, array in WEIGHTS.items()}
        module = build(SPEC)
        load_weights(module, huge)
        scores = scores_of_records(module, table(9).features)
        assert scores.shape == (9,)
        assert np.all((scores >= 0) & (scores <= 1))


@pytest.mark.parametrize("kind", [MessageType.TRAIN, MessageType.EVALUATE])
class TestBadMessages:
    def test_no_weights(self, kind: str) -> None:
        with pytest.raises(ModelError, match="no record 'arrays'"):
            ask(site(), kind, weights=None)

    def test_weights_of_another_model(self, kind: str) -> None:
        other = {**WEIGHTS, "network.0.weight": np.zeros((4, 2), np.float32)}
        with pytest.raises(ModelError, match=r"'network.0.weight': shape \(4, 2\)"):
            ask(site(), kind, weights=other)


def test_a_seeded_generator_is_for_simulations_only() -> None:
    with pytest.raises(PrivacyError, match="protects nobody"):
        client_app(site())
    private = LocalSite(SPEC, PLAN, site().split, SecureGenerator.from_os())
    client_app(private)
