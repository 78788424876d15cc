"""A training without noise, whose one step moves the weights by the clipped sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fl.spec import Hyperparameters
from fl.table import Table
from fl.training import train_locally
from privacy.plan import PrivacyPlan

CLIP = 0.5


@dataclass
class Recorder:
    """Draws no noise, takes the units it is told to, and notes what it is asked."""

    chosen: list[int] | None = None
    coins: list[tuple[int, float]] = field(default_factory=list)
    noise: list[tuple[int, float]] = field(default_factory=list)

    def normal(self, shape: Sequence[int], std: float) -> NDArray[np.float64]:
        self.noise.append((int(np.prod(shape)), std))
        return np.zeros(shape)

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        self.coins.append((n, rate))
        taken = np.zeros(n, bool)
        taken[slice(None) if self.chosen is None else self.chosen] = True
        return taken


@pytest.fixture
def recorder() -> type[Recorder]:
    """The source without noise."""
    return Recorder


@pytest.fixture(scope="session")
def step_plan() -> PrivacyPlan:
    """One step on all rows, with divisor 1."""
    return PrivacyPlan(
        clip_norm=CLIP,
        noise_multiplier=2.0,
        sampling_rate=1.0,
        expected_batch_size=1,
        evaluation_noise_multiplier=4.0,
        steps_per_round=1,
        rounds=1,
        delta=1e-5,
    )


@pytest.fixture(scope="session")
def clipped_sum(step_plan: PrivacyPlan) -> Callable[..., NDArray[np.float64]]:
    """Returns the sum of the clipped gradients of a table, as one step shows it."""

    def summed(
        make: Callable[[], nn.Module],
        table: Table,
        *,
        plan: PrivacyPlan = step_plan,
        source: Recorder | None = None,
        part_bytes: int = 1 << 30,
    ) -> NDArray[np.float64]:
        torch.manual_seed(1)
        module = make()
        before = [p.detach().double().clone() for p in module.parameters()]
        if source is None:  # the less noise, the finer the grid that the sum is rounded to
            plan = plan.model_copy(update={"noise_multiplier": 1e-9})
        train_locally(
            module,
            table,
            plan=plan,
            hyperparameters=Hyperparameters(learning_rate=1.0, momentum=0.0),
            generator=source or Recorder(),
            part_bytes=part_bytes,
        )
        moved = [b - p.detach() for b, p in zip(before, module.parameters(), strict=True)]
        return torch.cat([change.flatten() for change in moved]).numpy()

    return summed
