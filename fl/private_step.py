"""The private step of DP-SGD: clip each unit's gradient, sum, add noise, divide by a constant.

optimizer = SecureDPOptimizer(torch.optim.SGD(...), plan=plan, source=generator)
for part in parts:
    optimizer.accumulate(loss_of(part), part.patients)
optimizer.step()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer

from fl.batches import PatientRows
from fl.factored import Factors
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

    The unit is the record, or the patient: then its gradient is the mean of its records'. One step
    on a sample, which may come in several parts of whole units:

    1. A unit whose gradient holds NaN or an infinity anywhere is set to zero in all parameters.
       Its norm would not be a number, and clipping by it would spoil every weight.
    2. Each unit's gradient is scaled to an L2 norm of at most ``clip_norm``, over all parameters
       together, so that one unit changes the sum by at most ``clip_norm``.
    3. Gaussian noise of standard deviation ``noise_multiplier * clip_norm`` is added to the sum
       over all parts, once, in float64, and both are rounded to a public grid (``privacy.noise``).
       An empty sample gets its noise like any other. Under a plan whose noise is shared there is
       none here: the hospital adds its share to the quantised update (``fl.integer_noise``).
    4. The noisy sum is divided by the public ``expected_batch_size``, never by the sample's size.
    5. What does not depend on records, such as a proximal term, is added by a step hook; then the
       wrapped optimizer takes its step.

    Attributes:
        zeroed_units: times a unit was left out because its gradient was not finite.
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
        self.zeroed_units = 0
        self._source = source
        self._unfinished: list[torch.Tensor] | None = None
        self._noise_is_shared = plan.noise_shares > 1

    def accumulate(self, loss: torch.Tensor, patients: PatientRows | None) -> None:
        """Takes steps 1 and 2 on one part of a sample.

        Args:
            loss: summed over the part's records; each weighted by its share of a patient.
            patients: whose the records are; None where a record is the unit.
        """
        self._find_record_gradients(loss)
        if patients is None or self._joined(patients):
            self.clip_and_accumulate()
        for parameter in self.params:
            parameter.grad_sample = None

    def clip_and_accumulate(self) -> None:
        """Steps 1 and 2 on the units' gradients."""
        self._zero_non_finite()
        super().clip_and_accumulate()

    def pre_step(self, closure: Callable[[], float] | None = None) -> bool:
        """Steps 3 to 5, but for the wrapped optimizer's own."""
        self.add_noise()
        self.scale_grad()
        if self.step_hook:
            self.step_hook(self)
        return True

    def add_noise(self) -> None:
        """Step 3."""
        std = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            if parameter.summed_grad is None:  # an empty sample
                parameter.summed_grad = torch.zeros_like(parameter)
            parameter.grad = parameter.summed_grad.reshape(parameter.shape).contiguous()
        if self._noise_is_shared:
            return
        # In place, piece by piece: a large layer is held once, its noise never as a whole.
        for pieces in _pieces(parameter.grad for parameter in self.params):
            sizes = [len(piece) for piece in pieces]
            noise = torch.from_numpy(self._source.normal((sum(sizes),), std))
            for piece, drawn in zip(pieces, torch.split(noise, sizes), strict=True):
                piece.copy_(to_grid(drawn.add_(piece.cpu()), std))

    def scale_grad(self) -> None:
        """Step 4."""
        for parameter in self.params:
            parameter.grad /= self.expected_batch_size

    def _find_record_gradients(self, loss: torch.Tensor) -> None:
        """Leaves each record's gradients in ``grad_sample``: Opacus's hooks do."""
        torch.autograd.backward(loss)

    def _joined(self, patients: PatientRows) -> bool:
        """Sums each patient's gradients; False while records of a patient are still to come."""
        joined = [
            gradient.new_zeros((patients.count, *gradient.shape[1:])).index_add_(
                0, patients.index, gradient
            )
            for gradient in self.grad_samples
        ]
        if self._unfinished is not None:
            joined = [a.add_(b) for a, b in zip(joined, self._unfinished, strict=True)]
        self._unfinished = joined if patients.unfinished else None
        for parameter, gradient in zip(self.params, joined, strict=True):
            parameter.grad_sample = gradient
        return not patients.unfinished

    def _zero_non_finite(self) -> None:
        # A sum is finite only if all of its terms are, and costs less than looking at each; a sum
        # that overflows means gradients of no use.
        finite = torch.stack(
            [gradient.flatten(1).sum(1).isfinite() for gradient in self.grad_samples]
        ).all(0)
        if bool(finite.all()):
            return
        self.zeroed_units += int((~finite).sum())
        for parameter in self.params:
            parameter.grad_sample[~finite] = 0.0


class FactoredDPOptimizer(SecureDPOptimizer):
    """The same for a model whose records' gradients are known by their factors.

    Where the unit is the record, its gradient need not be formed; a patient's is a sum that must be
    known before it can be clipped, and is formed from the records' own.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        plan: PrivacyPlan,
        source: NoiseSource,
        factors: Factors,
    ) -> None:
        super().__init__(optimizer, plan=plan, source=source)
        self._factors = factors

    def accumulate(self, loss: torch.Tensor, patients: PatientRows | None) -> None:
        """See ``SecureDPOptimizer``."""
        if patients is not None:
            super().accumulate(loss, patients)
            return
        self._factors.backward(loss)
        sums, left_out = self._factors.clipped_sums(self.max_grad_norm)
        self._factors.clear()
        self.zeroed_units += left_out
        parameter: Any  # with what Opacus keeps on it
        for parameter, clipped in sums:
            before = parameter.summed_grad
            parameter.summed_grad = clipped if before is None else before + clipped

    def _find_record_gradients(self, loss: torch.Tensor) -> None:
        self._factors.backward(loss)
        formed = self._factors.formed()
        self._factors.clear()
        records = len(formed[0][1]) if formed else 0
        for parameter in self.params:  # those that the loss does not depend on, too
            parameter.grad_sample = parameter.new_zeros(()).expand(records, *parameter.shape)
        for known, gradient in formed:
            known.grad_sample = gradient  # type: ignore[attr-defined]  # as Opacus does


def _pieces(gradients: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Views of all values, in order, in lists of few enough to draw noise for at once."""
    together: list[torch.Tensor] = []
    room = _NOISE_ELEMENTS
    for gradient in gradients:
        rest = gradient.view(-1)
        while len(rest):
            together.append(rest[:room])
            rest, room = rest[len(together[-1]) :], room - len(together[-1])
            if not room:
                yield together
                together, room = [], _NOISE_ELEMENTS
    if together:
        yield together
