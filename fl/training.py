"""A hospital's training: DP-SGD on Opacus, with every constant taken from the public plan.

    result = train_locally(module, split.train, plan=plan, hyperparameters=spec.hyperparameters,
                           generator=SecureGenerator.from_os())

Opacus computes and clips per-record gradients. Its ``PrivacyEngine.make_private`` is not used: it
derives the sampling rate and the divisor from the number of records, so that one record more or
less shows in the size of every update.

The module is trained in place and stays a plain module. Results of ``train_locally`` other than the
weights are counts over private records: they are for the hospital's own log and must not leave it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from fl.data import Table
from fl.errors import ModelError
from fl.factored import LinearFactors, worth_factoring
from fl.private_step import FactoredDPOptimizer, NoiseSource, SecureDPOptimizer
from fl.spec import Hyperparameters
from privacy.plan import PrivacyPlan


@dataclass(frozen=True, slots=True)
class LocalTraining:
    """What happened in a hospital's training of one round; private but for ``steps``.

    Attributes:
        steps: noisy steps taken; the plan's steps per round, whatever the table holds.
        empty_batches: steps whose Poisson sample held no record.
        zeroed_records: times a record was left out because its gradient was not finite.
        seconds: wall time.
    """

    steps: int
    empty_batches: int
    zeroed_records: int
    seconds: float


def train_locally(
    module: nn.Module,
    table: Table,
    *,
    plan: PrivacyPlan,
    hyperparameters: Hyperparameters,
    generator: NoiseSource,
    proximal_mu: float = 0.0,
) -> LocalTraining:
    """Takes one round's noisy steps; changes the module in place.

    The loss is the binary cross-entropy of the logits, summed over the sample. Each round has a
    fresh SGD: momentum does not outlive it.

    Args:
        module: float32 (n, d) to logits (n, 1) or (n,).
        table: the training part of the hospital's rows; n rows, 0 among them, change neither the
            number of steps nor the divisor.
        plan: the public constants.
        hyperparameters: learning rate and momentum.
        generator: draws the samples and the noise.
        proximal_mu: weight of FedProx's proximal term (Li et al. 2020, §3.2). It depends on weights
            alone, so it costs no privacy and is added after the noise.

    Raises:
        ModelError: Opacus cannot compute the gradient of each record, or the module does not fit
            the features.
    """
    started = time.perf_counter()
    features, labels = torch.from_numpy(table.features), torch.from_numpy(table.labels)
    empty_batches = 0
    with _private_optimizer(module, plan, hyperparameters, generator) as (wrapped, optimizer):
        if proximal_mu:
            optimizer.attach_step_hook(_ProximalTerm(module, proximal_mu))
        for _ in range(plan.steps_per_round):
            chosen = torch.from_numpy(generator.bernoulli(len(table), plan.sampling_rate))
            optimizer.zero_grad(set_to_none=True)
            if bool(chosen.any()):
                _backward(wrapped, optimizer, features[chosen], labels[chosen])
            else:
                empty_batches += 1
                _no_gradients(module)
            optimizer.step()
    return LocalTraining(
        steps=plan.steps_per_round,
        empty_batches=empty_batches,
        zeroed_records=optimizer.zeroed_records,
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
    plan: PrivacyPlan,
    hyperparameters: Hyperparameters,
    generator: NoiseSource,
) -> Iterator[tuple[nn.Module, SecureDPOptimizer]]:
    """Returns the module to call and the optimizer that makes private steps on it."""
    sgd = torch.optim.SGD(
        module.parameters(),
        lr=hyperparameters.learning_rate,
        momentum=hyperparameters.momentum,
    )
    if worth_factoring(module, records=plan.expected_batch_size):
        module.train()
        try:
            with LinearFactors.captured(module) as factors:
                yield module, FactoredDPOptimizer(sgd, plan=plan, source=generator, factors=factors)
        finally:
            _forget_gradients(module)
        return
    with _per_record_gradients(module) as wrapped:
        yield wrapped, SecureDPOptimizer(sgd, plan=plan, source=generator)


@contextmanager
def _per_record_gradients(module: nn.Module) -> Iterator[nn.Module]:
    """Puts Opacus's hooks on a module, and takes them off again whatever happens."""
    module.train()
    if errors := ModuleValidator.validate(module):
        raise ModelError(f"no per-record gradients: {'; '.join(map(str, errors))}")
    try:
        wrapped = GradSampleModule(module, loss_reduction="sum")
    except NotImplementedError as error:
        raise ModelError(f"no per-record gradients: {error}") from error
    try:
        yield wrapped
    finally:
        wrapped.to_standard_module()
        _forget_gradients(module)


def _forget_gradients(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.grad = None
        if hasattr(parameter, "summed_grad"):
            del parameter.summed_grad  # the last sum without its noise


def _backward(
    wrapped: nn.Module,
    optimizer: SecureDPOptimizer,
    features: torch.Tensor,
    labels: torch.Tensor,
) -> None:
    """Leaves each record's gradient on the parameters; ``features`` is a copy of the batch."""
    # PyTorch warns of a backward hook on a layer whose input asks for no gradient.
    features.requires_grad_()
    try:
        logits = wrapped(features)
    except RuntimeError as error:
        raise ModelError(
            f"the model does not fit features of shape (n, {features.shape[1]})"
        ) from error
    if logits.numel() != len(features):
        raise ModelError(f"logits of shape (n, {logits.shape[1:]}): one for each record is needed")
    loss = binary_cross_entropy_with_logits(logits.reshape(-1), labels, reduction="sum")
    optimizer.backward(loss, features)


def _no_gradients(module: nn.Module) -> None:
    """The per-record gradients of no records; no layer has to cope with an empty batch."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))  # type: ignore[attr-defined]
