"""The noise of a step lies, with its sum, on a public grid; or is left to the secure sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from torch import nn

from fl.private_step import SecureDPOptimizer
from privacy.noise import SecureGenerator, grid_of
from privacy.plan import PrivacyPlan

SIZE = 12
PLAN = PrivacyPlan(
    clip_norm=0.7,
    noise_multiplier=1.3,
    evaluation_noise_multiplier=4.0,
    sampling_rate=1.0,
    expected_batch_size=7,
    steps_per_round=1,
    rounds=1,
    delta=1e-5,
)
STD = 0.7 * 1.3


@dataclass
class Given:
    """A source of the noise it is given."""

    noise: NDArray[np.float64]

    def normal(self, shape: Sequence[int], std: float) -> NDArray[np.float64]:
        assert std == PLAN.noise_multiplier * PLAN.clip_norm
        return self.noise.reshape(shape).copy()

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        return np.ones(n, np.bool_)


def noisy(
    total: NDArray[np.float32], source: Given | SecureGenerator, plan: PrivacyPlan = PLAN
) -> NDArray[np.float64]:
    """What the optimizer makes of a sum of clipped gradients, before the divisor."""
    weight = nn.Parameter(torch.zeros(len(total)))
    optimizer = SecureDPOptimizer(torch.optim.SGD([weight], lr=1.0), plan=plan, source=source)
    weight.summed_grad = torch.from_numpy(total.copy())  # type: ignore[attr-defined]
    optimizer.add_noise()
    assert weight.grad is not None
    return weight.grad.numpy().astype(np.float64)


@given(
    total=npst.arrays(np.float32, SIZE, elements=st.floats(-50, 50, width=32)),
    noise=npst.arrays(np.float64, SIZE, elements=st.floats(-8, 8)),
)
def test_every_noisy_sum_is_a_multiple_of_the_public_step(
    total: NDArray[np.float32], noise: NDArray[np.float64]
) -> None:
    values = noisy(total, Given(noise))
    step = grid_of(STD)
    assert np.array_equal(values / step, np.round(values / step))
    assert np.abs(values - (total + noise)).max() <= step / 2 * (1 + 1e-9)


def test_the_grid_costs_no_noise_worth_the_name() -> None:
    values = noisy(np.full(200_000, 0.3, np.float32), SecureGenerator.seeded(1))
    assert abs(values.mean() - 0.3) < 5 * STD / np.sqrt(200_000)
    assert abs(values.std() / STD - 1) < 5 / np.sqrt(2 * 200_000)


def test_only_a_plan_that_shares_its_noise_leaves_it_out() -> None:
    total = np.linspace(-1, 1, SIZE, dtype=np.float32)
    shared = PLAN.model_copy(update={"noise_shares": 2})
    assert np.array_equal(noisy(total, SecureGenerator.seeded(1), shared), total)
    assert not np.any(noisy(total, SecureGenerator.seeded(1)) == total)
