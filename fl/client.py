"""A hospital's Flower ClientApp: what a hospital answers to ``train`` and ``evaluate``.

    app = client_app(LocalSite(spec=spec, plan=plan, split=split, generator=generator))
    reply = app(message, context)

Messages carry ``arrays`` (weights) and ``config``: ``server-round``; ``proximal-mu`` under FedProx;
``learning-rate`` where the round has one of its own; ``stage`` and ``radius`` in a round that
measures features (`fl.statistics`). A reply to ``train`` carries the new weights and the public
weight 1: neither the number of records nor a loss ever leaves. A reply to ``evaluate`` carries the
score counts on the held-out rows (`fl.evaluation.counts`), those of subgroups where ``config`` asks
for them; the caller must add their noise and put them under the secure sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from torch import nn

from fl.architectures import build, load_weights, split_fixed, weights_of
from fl.arrays import record_of
from fl.errors import ModelError
from fl.evaluation.counts import COUNTS, WITH_SUBGROUPS, encode
from fl.scoring import outputs_of, scores_of_records
from fl.secure_round import PUBLIC_WEIGHT
from fl.spec import ModelSpec
from fl.stages import KINDS, LEARNING_RATE, PROXIMAL_MU, RADIUS, STAGE, StageKind
from fl.statistics import measure
from fl.table import Split, Table
from fl.training import train_locally
from fl.weights import Weights
from privacy.errors import PrivacyError
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan


@dataclass(frozen=True, slots=True, eq=False)
class LocalSite:
    """What a hospital brings to a round.

    Attributes:
        spec: the model that the hospital agreed to train.
        plan: the privacy plan that it agreed to.
        split: its rows, to train on and held out.
        generator: draws samples and noise; made by ``SecureGenerator.from_os`` in this process.
        device: where the module runs; None for the best.
        scored: is shown the held-out rows and their scores, float64, shape (n,), when weights are
            evaluated; for the hospital's own eyes.
    """

    spec: ModelSpec
    plan: PrivacyPlan
    split: Split
    generator: SecureGenerator
    device: torch.device | None = None
    scored: Callable[[NDArray[np.float64], Table], None] | None = None


def client_app(site: LocalSite, *, simulated: bool = False) -> ClientApp:
    """Returns the ClientApp of a hospital.

    Args:
        site: what the hospital brings.
        simulated: the rows are nobody's, so a seeded generator will do.

    Raises:
        PrivacyError: a seeded generator outside a simulation: its noise can be computed again and
            subtracted.
    """
    if not (site.generator.is_private or simulated):
        raise PrivacyError(
            "a seeded generator protects nobody: use SecureGenerator.from_os(), or simulated=True "
            "where the rows are nobody's"
        )
    app = ClientApp()

    @app.train()
    def train(message: Message, _: Context) -> Message:
        trained = _trained(site, message)
        metrics = MetricRecord({"num-examples": PUBLIC_WEIGHT})
        return Message(
            RecordDict({"arrays": record_of(trained), "metrics": metrics}),
            reply_to=message,
        )

    @app.evaluate()
    def evaluate(message: Message, _: Context) -> Message:
        held_out = site.split.held_out
        module = _module_of(site.spec, message)
        scores = scores_of_records(module, held_out.features, device=site.device)
        if site.scored is not None:
            site.scored(scores.astype(np.float64), held_out)
        counts = encode(
            scores,
            held_out.labels,
            held_out.groups,
            subgroups=site.spec.contract.subgroups if _with_subgroups(message) else (),
        )
        metrics = MetricRecord({"num-examples": PUBLIC_WEIGHT, COUNTS: counts.tolist()})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def _trained(site: LocalSite, message: Message) -> Weights:
    """The weights after this hospital's part of a round, whichever stage it is."""
    weights, config = _weights_in(message), _config_of(message)
    kind = _stage(config)
    hyperparameters = site.spec.hyperparameters
    if LEARNING_RATE in config:
        hyperparameters = hyperparameters.model_copy(
            update={"learning_rate": config[LEARNING_RATE], "noise_limit": None}
        )
    module = build(site.spec)
    load_weights(module, weights)
    fixed, trained = split_fixed(module)
    table = site.split.train
    if fixed is not None:
        table = replace(table, features=outputs_of(fixed, table.features, device=site.device))
    if kind != "train":
        return measure(
            weights,
            table,
            kind=kind,
            radius=config.get(RADIUS, 0.0),
            learning_rate=hyperparameters.learning_rate_under(site.plan),
            plan=site.plan,
            generator=site.generator,
            device=site.device,
        )
    train_locally(
        trained,
        table,
        plan=site.plan,
        hyperparameters=hyperparameters,
        generator=site.generator,
        proximal_mu=config.get(PROXIMAL_MU, 0.0),
        device=site.device,
    )
    return weights_of(module, copy=False)


def _module_of(spec: ModelSpec, message: Message) -> nn.Module:
    module = build(spec)
    load_weights(module, _weights_in(message))
    return module


def _weights_in(message: Message) -> Weights:
    record = message.content.get("arrays")
    if not isinstance(record, ArrayRecord):
        raise ModelError("message: no record 'arrays' with the incoming weights")
    return {name: array.numpy() for name, array in record.items()}


def _config_of(message: Message) -> dict[str, float]:
    config = message.content.get("config")
    if not isinstance(config, ConfigRecord):
        return {}
    values = {}
    for name in (PROXIMAL_MU, LEARNING_RATE, STAGE, RADIUS):
        value = config.get(name, 0.0)
        if not isinstance(value, int | float) or not 0 <= value < np.inf:
            raise ModelError(f"{name} {value!r}: must be a finite number from 0")
        if name in config:
            values[name] = float(value)
    return values


def _with_subgroups(message: Message) -> bool:
    config = message.content.get("config")
    asked = config.get(WITH_SUBGROUPS, 0) if isinstance(config, ConfigRecord) else 0
    if asked not in (0, 1):
        raise ModelError(f"{WITH_SUBGROUPS} {asked!r}: must be 0 or 1")
    return bool(asked)


def _stage(config: dict[str, float]) -> StageKind:
    number = config.get(STAGE, 0.0)
    if number not in range(len(KINDS)):
        raise ModelError(f"stage {number!r}: must be one of 0 to {len(KINDS) - 1}")
    return KINDS[int(number)]
