"""A hospital's training: DP-SGD, with every constant taken from the public plan.

    result = train_locally(module, split.train, plan=plan, hyperparameters=spec.hyperparameters,
                           generator=SecureGenerator.from_os())

Where the table names patients, all is by patient: who is drawn, what is clipped, what the plan's
divisor counts. Opacus's ``PrivacyEngine.make_private`` is not used: it derives the sampling rate
and the divisor from the number of records, so that one record more or less shows in the size of
every update. ``docs/dp-training.md`` explains the choices.

The module is trained in place and stays a plain module. Results of ``train_locally`` other than the
weights are counts over private records: they are for the hospital's own log and must not leave it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from fl.batches import Batches, Part
from fl.device import placed
from fl.errors import ModelError
from fl.factored import Factors
from fl.per_sample import PART_BYTES, Method, method_for, records_at_once
from fl.private_step import FactoredDPOptimizer, NoiseSource, SecureDPOptimizer
from fl.spec import Hyperparameters
from fl.table import Table
from privacy.plan import PrivacyPlan

_Run: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class LocalTraining:
    """What happened in a hospital's training of one round; private but for ``steps``.

    Attributes:
        steps: noisy steps taken; the plan's steps per round, whatever the table holds.
        empty_batches: steps whose sample held no record.
        zeroed_records: times a record, or a patient where the table names patients, was left out
            because its gradient was not finite.
        seconds: wall time.
    """

    steps: int
    empty_batches: int
    zeroed_records: int
    seconds: float


def cross_entropy(logits: torch.Tensor, part: Part) -> torch.Tensor:
    """Returns a part's binary cross-entropy, summed over its records, each by its patient share."""
    weight = None if part.patients is None else part.patients.share
    return binary_cross_entropy_with_logits(
        logits.reshape(-1), part.labels, weight=weight, reduction="sum"
    )


Loss: TypeAlias = Callable[[torch.Tensor, Part], torch.Tensor]


def train_locally(
    module: nn.Module,
    table: Table,
    *,
    plan: PrivacyPlan,
    hyperparameters: Hyperparameters,
    generator: NoiseSource,
    proximal_mu: float = 0.0,
    part_bytes: int = PART_BYTES,
    loss: Loss = cross_entropy,
    device: torch.device | None = None,
) -> LocalTraining:
    """Takes one round's noisy steps; changes the module in place.

    The loss is summed over the sample; where the table names patients, it is the mean over a
    patient's records, summed over the patients. Each round has a
    fresh SGD: momentum does not outlive it.

    Args:
        module: float32 (n, d) to logits (n, 1) or (n,).
        table: the training part of the hospital's rows; n rows, 0 among them, change neither the
            number of steps nor the divisor.
        plan: the public constants. At sampling rate 1 every step takes all records.
        hyperparameters: learning rate, as its noise limit allows, and momentum.
        generator: draws the samples and the noise.
        proximal_mu: weight of FedProx's proximal term (Li et al. 2020, §3.2). It depends on weights
            alone, so it costs no privacy and is added after the noise.
        part_bytes: memory for the records that are processed at once. It changes a step's sums by
            rounding alone.
        loss: from logits and a part's records to their summed loss.
        device: where gradients are computed; None for the best. The module is back on the CPU
            after it, and the noise is drawn there.

    Raises:
        ModelError: the gradient of each record cannot be computed, or the module does not fit the
            features.
    """
    started = time.perf_counter()
    method = method_for(module)
    most_records = records_at_once(
        module,
        table.features.shape[1:],
        method=method,
        by_patient=table.patients is not None,
        part_bytes=part_bytes,
    )
    empty_batches = 0
    with (
        placed(module, device) as on,
        _private_optimizer(module, method, plan, hyperparameters, generator) as (run, optimizer),
    ):
        batches = Batches(
            table, plan=plan, coins=generator.bernoulli, most_records=most_records, device=on
        )
        if proximal_mu:
            optimizer.attach_step_hook(_ProximalTerm(module, proximal_mu))
        for _ in range(plan.steps_per_round):
            optimizer.zero_grad(set_to_none=True)
            is_empty = True
            for part in batches.next_step():
                optimizer.accumulate(loss(_logits(run, part), part), part.patients)
                is_empty = False
            empty_batches += is_empty
            optimizer.step()
    return LocalTraining(
        steps=plan.steps_per_round,
        empty_batches=empty_batches,
        zeroed_records=optimizer.zeroed_units,
        seconds=time.perf_counter() - started,
    )


class _ProximalTerm:
    """Adds ``mu * (w - w0)`` to the noisy gradient, w0 being the weights at the round's start."""

    def __init__(self, module: nn.Module, mu: float) -> None:
        self._mu = mu
        self._anchored = [
            (parameter, parameter.detach().clone())
            for parameter in module.parameters()
            if parameter.requires_grad
        ]

    def __call__(self, optimizer: DPOptimizer) -> None:
        with torch.no_grad():
            for parameter, anchor in self._anchored:
                if parameter.grad is not None:  # the optimizer has just set it
                    parameter.grad.add_(parameter - anchor, alpha=self._mu)


@contextmanager
def _private_optimizer(
    module: nn.Module,
    method: Method,
    plan: PrivacyPlan,
    hyperparameters: Hyperparameters,
    generator: NoiseSource,
) -> Iterator[tuple[_Run, SecureDPOptimizer]]:
    """Returns what to run on features, and the optimizer that makes private steps.

    The module has its hooks taken off again whatever happens.
    """
    sgd = torch.optim.SGD(
        module.parameters(),
        lr=hyperparameters.learning_rate_under(plan),
        momentum=hyperparameters.momentum,
    )
    try:
        if method is Method.FACTORS:
            with Factors.captured(module) as factors:
                yield module, FactoredDPOptimizer(sgd, plan=plan, source=generator, factors=factors)
        else:
            with _opacus_hooks(module) as wrapped:
                yield wrapped, SecureDPOptimizer(sgd, plan=plan, source=generator)
    finally:
        _forget_gradients(module)


@contextmanager
def _opacus_hooks(module: nn.Module) -> Iterator[_Run]:
    wrapped = GradSampleModule(module, loss_reduction="sum")
    try:
        # PyTorch warns of a backward hook on a layer whose input asks for no gradient.
        yield lambda features: wrapped(features.detach().float().requires_grad_())
    finally:
        wrapped.to_standard_module()


def _forget_gradients(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.grad = None
        for name in ("grad_sample", "summed_grad"):  # the last sum without its noise
            if hasattr(parameter, name):
                delattr(parameter, name)


def _logits(run: _Run, part: Part) -> torch.Tensor:
    logits = run(part.features)
    if logits.numel() != len(part.features):
        raise ModelError(f"logits of shape (n, {logits.shape[1:]}): one for each record is needed")
    return logits
