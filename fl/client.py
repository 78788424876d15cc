"""A hospital's Flower ClientApp: what a hospital answers to ``train`` and ``evaluate``.

    app = client_app(LocalSite(spec=spec, plan=plan, split=split, generator=generator))
    reply = app(message, context)

Messages carry ``arrays`` (weights) and ``config``: ``server-round``; ``proximal-mu`` under FedProx;
``learning-rate`` where the round has one of its own; ``stage`` and ``radius`` in a round that
measures features (`fl.statistics`). A reply to ``train`` carries the new weights and the public
weight 1: neither the number of records nor a loss ever leaves. A reply to ``evaluate`` carries the
score counts on the held-out rows, which the caller must put under the secure sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from torch import nn

from fl.architectures import build, features_of, load_weights, weights_of
from fl.arrays import record_of
from fl.errors import ModelError
from fl.evaluation import ScoreHistogram, score_histogram
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
        scored: is shown the held-out rows and their scores, float64, shape (n,), when weights are
            evaluated; for the hospital's own eyes.
    """

    spec: ModelSpec
    plan: PrivacyPlan
    split: Split
    generator: SecureGenerator
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
        scores = probabilities_of(_module_of(site.spec, message), held_out)
        histogram = score_histogram(scores, held_out.labels)
        if site.scored is not None:
            site.scored(scores, held_out)
        metrics = MetricRecord(
            {
                "num-examples": PUBLIC_WEIGHT,
                "negatives": histogram.negatives.tolist(),
                "positives": histogram.positives.tolist(),
            }
        )
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def scores_of(module: nn.Module, table: Table) -> ScoreHistogram:
    """Counts a module's scores on a table; the module is left in evaluation mode.

    Raises:
        ModelError: scores that are not numbers, as of weights that diverged.
    """
    return score_histogram(probabilities_of(module, table), table.labels)


def probabilities_of(module: nn.Module, table: Table) -> NDArray[np.float64]:
    """Returns a module's scores on a table, shape (n,); the module is left in evaluation mode."""
    with torch.inference_mode():
        logits = module.eval()(torch.from_numpy(table.features)).reshape(len(table))
        return torch.sigmoid(logits).numpy().astype(np.float64)


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
    if kind != "train":
        return measure(
            features_of(module),
            weights,
            site.split.train,
            kind=kind,
            radius=config.get(RADIUS, 0.0),
            learning_rate=hyperparameters.learning_rate_under(site.plan),
            plan=site.plan,
            generator=site.generator,
        )
    train_locally(
        module,
        site.split.train,
        plan=site.plan,
        hyperparameters=hyperparameters,
        generator=site.generator,
        proximal_mu=config.get(PROXIMAL_MU, 0.0),
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


def _stage(config: dict[str, float]) -> StageKind:
    number = config.get(STAGE, 0.0)
    if number not in range(len(KINDS)):
        raise ModelError(f"stage {number!r}: must be one of 0 to {len(KINDS) - 1}")
    return KINDS[int(number)]
