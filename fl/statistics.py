"""A hospital's part in finding the features' centre and spread: one clipped, noised sum a round.

    weights = measure(weights, table, kind="centre", radius=1.0, learning_rate=0.1, …)

What leaves is a step of DP-SGD like any other, on a loss whose gradient is the record's own
contribution: its offset from the centre so far, or the size of that offset, and a constant by which
records are counted. So clipping, patients, noise and the public divisor are those of training.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl.architectures.standardiser import without_nan
from fl.batches import Part
from fl.errors import ModelError
from fl.names import CENTRE, RECORDS, SPREAD
from fl.private_step import NoiseSource
from fl.spec import Hyperparameters
from fl.stages import COUNT_SHARE, StageKind
from fl.table import Table
from fl.training import train_locally
from fl.weights import Weights
from privacy.plan import PrivacyPlan

# The rest of the radius is for the offsets, so that clipping changes no count.
_OFFSET_SHARE: Final = math.sqrt(1 - COUNT_SHARE**2)


def measure(
    weights: Weights,
    table: Table,
    *,
    kind: StageKind,
    radius: float,
    learning_rate: float,
    plan: PrivacyPlan,
    generator: NoiseSource,
    device: torch.device | None = None,
) -> Weights:
    """Returns the weights with this hospital's sums added to the standardiser's.

    The sum of all records' (offset, count) is divided by ``plan.expected_batch_size`` and
    multiplied by ``learning_rate``; each is scaled so that ``radius`` becomes the clip norm. The
    noise of the plan's ``steps_per_round`` steps is put into this one: together they would tell as
    much (Dong, Roth and Su 2022, corollary 3.3).

    Args:
        weights: the incoming weights; the standardiser's among them.
        table: n rows to train on, their features of shape (n, d).
        kind: ``centre`` sums the offsets, ``spread`` their absolute values.
        radius: L2 bound of a record's contribution, in units of the root of d; above 0.
        learning_rate: as the invitation has it.
        plan: the public constants; at sampling rate 1.
        generator: draws the noise.
        device: as of `train_locally`.

    Raises:
        ModelError: weights without a standardiser, or a plan that samples.
    """
    if CENTRE not in weights or plan.sampling_rate != 1 or not radius > 0:
        raise ModelError(
            f"stage {kind!r}: it needs a standardiser among the weights, sampling_rate 1 (here "
            f"{plan.sampling_rate:g}) and a radius above 0 (here {radius:g})"
        )
    contribution = _Contribution(
        weights[CENTRE], kind=kind, radius=radius, clip_norm=plan.clip_norm
    )
    train_locally(
        contribution,
        table,
        plan=plan.model_copy(
            update={
                "steps_per_round": 1,
                "noise_multiplier": plan.noise_multiplier / math.sqrt(plan.steps_per_round),
            }
        ),
        hyperparameters=Hyperparameters(learning_rate=learning_rate, momentum=0),
        generator=generator,
        loss=_minus_output,
        device=device,
    )
    sums: NDArray[np.float32] = contribution.sums.weight.detach().numpy()[0]
    summed = CENTRE if kind == "centre" else SPREAD
    return {
        **weights,
        summed: weights[summed] + sums[:-1],
        RECORDS: weights[RECORDS] + sums[-1:],
    }


class _Contribution(nn.Module):
    """Each record's contribution, times weights whose gradient it thereby is."""

    def __init__(
        self,
        centre: NDArray[np.float32],
        *,
        kind: StageKind,
        radius: float,
        clip_norm: float,
    ) -> None:
        super().__init__()
        self.sums = nn.Linear(len(centre) + 1, 1, bias=False)
        nn.init.zeros_(self.sums.weight)
        self.register_buffer("_centre", torch.from_numpy(np.array(centre)), persistent=False)
        self._kind, self._clip_norm = kind, clip_norm
        self._most = _OFFSET_SHARE * radius * math.sqrt(len(centre))
        self._radius = radius * math.sqrt(len(centre))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns (n, 1), zeros at first."""
        with torch.no_grad():
            offsets = without_nan(features - self.get_buffer("_centre"))
            if self._kind == "spread":
                offsets = offsets.abs()
            norms = offsets.norm(dim=1, keepdim=True)
            clipped = offsets * (self._most / norms.clamp(min=self._most))
            count = torch.full_like(norms, COUNT_SHARE * self._radius)
            contribution = torch.cat([clipped, count], 1) * (self._clip_norm / self._radius)
        logits: torch.Tensor = self.sums(contribution)
        return logits


def _minus_output(logits: torch.Tensor, part: Part) -> torch.Tensor:
    """A loss whose gradient with respect to the sums is minus the contribution."""
    if part.patients is None:
        return -logits.sum()
    return -(logits.reshape(-1) * part.patients.share).sum()
