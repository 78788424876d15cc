"""The private step of DP-SGD: clip each record's gradient, sum, add noise, divide by a constant.

optimizer = SecureDPOptimizer(torch.optim.SGD(...), plan=plan, source=generator)
optimizer.backward(loss, features)
optimizer.step()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer

from fl.factored import LinearFactors
from privacy.noise import to_grid
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


class SecureDPOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus carries no types
    """The optimizer of DP-SGD (Abadi et al. 2016, algorithm 1).

    One step, on the per-record gradients of a Poisson sample:

    1. A record whose gradient holds NaN or an infinity anywhere is set to zero in all parameters.
       Its norm would not be a number, and clipping by it would spoil every weight.
    2. Each record's gradient is scaled to an L2 norm of at most ``clip_norm``, over all parameters
       together, so that one record changes the sum by at most ``clip_norm``.
    3. Gaussian noise of standard deviation ``noise_multiplier * clip_norm`` is added to the sum in
       float64, and both are rounded to a public grid (``privacy.noise``). An empty sample gets its
       noise like any other. Under a plan whose noise is shared there is none here: the hospital
       adds its share to the quantised update (``fl.noise_shares``).
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
        self._noise_is_shared = plan.noise_shares > 1

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
            if self._noise_is_shared:
                continue
            for piece in parameter.grad.view(-1).split(_NOISE_ELEMENTS):
                noise = torch.from_numpy(self._source.normal((len(piece),), std))
                piece.copy_(to_grid(noise.add_(piece), std))

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
