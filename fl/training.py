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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from fl.data import Table
from fl.errors import ModelError
from fl.factored import LinearFactors, worth_factoring
from fl.spec import Hyperparameters
from privacy.plan import PrivacyPlan

# What a processor's cache holds: noise in larger pieces takes up to four times as long a value.
_NOISE_ELEMENTS: Final = 1 << 14


class NoiseSource(Protocol):
    """What training draws from; ``privacy.noise.SecureGenerator`` is the one to use."""

    def normal(self, shape: Sequence[int], std: float) -> NDArray[np.float64]:
        """Returns independent Gaussian values of mean 0."""
        ...

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        """Returns n independent coins, true with probability ``rate``."""
        ...


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


class SecureDPOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus carries no types
    """The optimizer of DP-SGD (Abadi et al. 2016, algorithm 1).

    One step, on the per-record gradients of a Poisson sample:

    1. A record whose gradient holds NaN or an infinity anywhere is set to zero in all parameters.
       Its norm would not be a number, and clipping by it would spoil every weight.
    2. Each record's gradient is scaled to an L2 norm of at most ``clip_norm``, over all parameters
       together, so that one record changes the sum by at most ``clip_norm``.
    3. Gaussian noise of standard deviation ``noise_multiplier * clip_norm`` is added to the sum, in
       float64 and rounded once. An empty sample gets its noise like any other.
    4. The noisy sum is divided by the public ``expected_batch_size``, never by the sample's size.
    5. What does not depend on records, such as a proximal term, is added by a step hook; then the
       wrapped optimizer takes its step.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, *, plan: PrivacyPlan, source: NoiseSource
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.clip_norm,
            expected_batch_size=plan.expected_batch_size,
            # The loss is summed over records; this "mean" only turns on the public divisor.
            loss_reduction="mean",
        )
        self.zeroed_records = 0
        self._source = source

    def backward(self, loss: torch.Tensor, features: torch.Tensor) -> None:
        """Computes from a sample's loss what step 1 starts from; ``features`` is the sample."""
        torch.autograd.backward(loss)

    def clip_and_accumulate(self) -> None:
        """Steps 1 and 2."""
        self._zero_non_finite()
        super().clip_and_accumulate()

    def add_noise(self) -> None:
        """Step 3."""
        std = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            # In place, piece by piece: a large layer is held once, its noise never as a whole.
            parameter.grad = parameter.summed_grad.view_as(parameter)
            for piece in parameter.grad.view(-1).split(_NOISE_ELEMENTS):
                noise = torch.from_numpy(self._source.normal(len(piece), std))
                piece.copy_(noise.add_(piece))

    def _zero_non_finite(self) -> None:
        # A sum is finite only if all of its terms are, and costs less than looking at each; a sum
        # that overflows means gradients of no use.
        finite = torch.stack(
            [gradient.flatten(1).sum(1).isfinite() for gradient in self.grad_samples]
        ).all(0)
        if bool(finite.all()):
            return
        self.zeroed_records += int((~finite).sum())
        for parameter in self.params:
            parameter.grad_sample[~finite] = 0.0


class FactoredDPOptimizer(SecureDPOptimizer):
    """The same for a model whose records' gradients are known by their factors alone."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        plan: PrivacyPlan,
        source: NoiseSource,
        factors: LinearFactors,
    ) -> None:
        super().__init__(optimizer, plan=plan, source=source)
        self._factors = factors

    def backward(self, loss: torch.Tensor, features: torch.Tensor) -> None:
        """Finds the factors; on the way to the features no weight's own gradient is computed."""
        torch.autograd.backward(loss, inputs=[features])

    def pre_step(self, closure: Callable[[], float] | None = None) -> bool:
        """All steps but the wrapped optimizer's own."""
        self.zeroed_records += self._factors.sum_clipped(self.max_grad_norm)
        self._factors.clear()
        self.add_noise()
        for parameter in self.params:
            parameter.grad /= self.expected_batch_size
        if self.step_hook:
            self.step_hook(self)
        return True


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
