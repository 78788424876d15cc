"""Faults planted in the training, each of which the audit must catch.

A fault is a training function or a source of randomness to put in the place of the real one. Those
of scale train under another plan than the one that is claimed, so they reach whichever optimizer
the training chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fl.private_step import SecureDPOptimizer
from fl.table import Table
from fl.training import train_locally
from privacy.audit import std_interval
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan

Array = NDArray[np.float64]
Leak = Callable[..., tuple[float, float]]
Noise = Callable[..., Array]
Train = Callable[..., object]


class NoNoise(SecureGenerator):
    def normal(self, shape: object, std: float) -> Array:
        return np.zeros(shape)


@dataclass
class RestartsAtEachDraw:
    """A source whose stream begins anew whenever something is drawn from it."""

    stream: int

    def __getattr__(self, name: str) -> object:
        return getattr(SecureGenerator.seeded(self.stream), name)


def under(change: Callable[[PrivacyPlan, int], dict[str, float]]) -> Train:
    """The training under another plan than the one it is told, given that one and its rows."""

    def train(module: nn.Module, table: Table, *, plan: PrivacyPlan, **rest: object) -> object:
        other = plan.model_copy(update=change(plan, len(table)))
        return train_locally(module, table, plan=other, **rest)

    return train


unclipped = under(
    lambda told, _: {
        "clip_norm": told.clip_norm * 1000,
        "noise_multiplier": told.noise_multiplier / 1000,  # the noise stays what it was
    }
)


def clips_the_batch(
    module: nn.Module, table: Table, *, plan: PrivacyPlan, **rest: object
) -> object:
    add_noise = SecureDPOptimizer.add_noise

    def clip_and_add_noise(optimizer: SecureDPOptimizer) -> None:
        length = torch.cat([p.summed_grad.flatten() for p in optimizer.params]).norm()
        for parameter in optimizer.params:
            parameter.summed_grad *= (plan.clip_norm / length).clamp(max=1.0)
        add_noise(optimizer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SecureDPOptimizer, "add_noise", clip_and_add_noise)
        return unclipped(module, table, plan=plan, **rest)


def skips_an_empty_batch(*given: object, **named: object) -> object:
    add_noise = SecureDPOptimizer.add_noise

    def add_noise_to_records(optimizer: SecureDPOptimizer) -> None:
        empty = all(parameter.summed_grad is None for parameter in optimizer.params)
        add_noise(optimizer)
        if empty:
            for parameter in optimizer.params:
                parameter.grad.zero_()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SecureDPOptimizer, "add_noise", add_noise_to_records)
        return train_locally(*given, **named)


FAULTS: dict[str, dict[str, object]] = {
    "no noise": {"source": NoNoise.seeded},
    "half the noise": {
        "train": under(lambda told, _: {"noise_multiplier": told.noise_multiplier / 2})
    },
    "noise divided by the batch": {
        "train": under(
            lambda told, _: {"noise_multiplier": told.noise_multiplier / told.expected_batch_size}
        )
    },
    "no clipping": {"train": unclipped},
    "batch clipping": {"train": clips_the_batch},
    "a fixed seed": {"source": lambda _: SecureGenerator.seeded(0)},
    "the same noise in each step": {"source": RestartsAtEachDraw},
    "a skipped empty batch": {"train": skips_an_empty_batch},
    "sampling rate from n": {
        "train": under(
            lambda told, n: {"sampling_rate": min(1.0, told.expected_batch_size / max(n, 1))}
        )
    },
    "divisor from n": {"train": under(lambda _, n: {"expected_batch_size": max(n, 1)})},
}


@pytest.mark.parametrize(
    ("fault", "pair", "runs"),
    [
        ("no noise", "full batch", 500),
        ("half the noise", "full batch", 500),
        ("noise divided by the batch", "full batch", 500),
        ("no clipping", "full batch", 500),
        ("no clipping", "convolution", 500),
        ("no clipping", "large batch", 500),
        ("batch clipping", "full batch against others", 500),
        ("batch clipping", "convolution against others", 500),
        ("batch clipping", "large batch against others", 500),
        ("a fixed seed", "full batch", 500),
        ("a fixed seed", "large batch", 500),
        ("divisor from n", "full batch against others", 500),
        ("a skipped empty batch", "sample", 1000),
        ("sampling rate from n", "sample against another", 1500),
    ],
)
def test_a_fault_that_leaks_is_caught_by_the_bound(
    fault: str, pair: str, runs: int, leak: Leak
) -> None:
    measured, claimed = leak(pair, runs=runs, **FAULTS[fault])
    assert measured > claimed


@pytest.mark.parametrize(
    ("fault", "between"), [("a fixed seed", "runs"), ("the same noise in each step", "steps")]
)
def test_noise_that_repeats_is_caught_by_its_correlation(
    fault: str, between: str, noise: Noise, repetition: Callable[[Array], dict[str, float]]
) -> None:
    assert repetition(noise(**FAULTS[fault]))[between] < 1e-9


@pytest.mark.parametrize(
    "fault", ["no noise", "half the noise", "noise divided by the batch", "a skipped empty batch"]
)
def test_too_little_noise_is_caught_by_its_deviation(fault: str, noise: Noise) -> None:
    _, high = std_interval(noise(**FAULTS[fault]))
    assert high < 1
