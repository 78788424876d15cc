"""The audit of the training that runs: what it leaks at least, and that each fault is caught.

Every run is the real ``train_locally`` on one of two neighbouring tables. The adversary is the one
of DP-SGD: it sees the weights after each step, so it knows each step's noisy sum of gradients. The
streams are fixed, so a check that holds once holds always. ``docs/audit-of-training.md`` has the
figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from fl.data import Table
from fl.private_step import SecureDPOptimizer
from fl.spec import Hyperparameters
from fl.training import train_locally
from privacy.accounting import PldAccountant
from privacy.audit import (
    CONFIDENCE,
    Neighbours,
    dependence_p_value,
    epsilon_lower_bound,
    mu_lower_bound,
    scores_of,
    std_interval,
)
from privacy.mechanisms import mechanism_of
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan

Array = NDArray[np.float64]
Train = Callable[..., object]

COLUMNS = 3
TEETH = 0.6  # the least share of the claim that a bound on sound code must show
DELTA = 0.1  # where epsilon is bounded: large, so that some thousand runs see the events it counts
PLAIN = Hyperparameters(learning_rate=1.0, momentum=0.0)
FULL_BATCH = PrivacyPlan(
    clip_norm=0.01,
    noise_multiplier=0.5,
    sampling_rate=1.0,
    expected_batch_size=5,
    evaluation_noise_multiplier=4.0,
    steps_per_round=1,
    rounds=1,
    delta=1e-5,
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """The steps are too small to share: where processors are busy, threads only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def plan(**changes: float) -> PrivacyPlan:
    return FULL_BATCH.model_copy(update=changes)


def linear(columns: int) -> nn.Module:
    return nn.Linear(columns, 1, bias=False)


def convolution(columns: int) -> nn.Module:
    """The same function in layers whose gradients need no matrix product of two factors."""
    return nn.Sequential(
        nn.Unflatten(1, (1, columns)), nn.Conv1d(1, 1, columns, bias=False), nn.Flatten()
    )


@dataclass(frozen=True)
class Implementation:
    """What is audited: the training function, and where a run's stream comes from."""

    train: Train = train_locally
    source: Callable[[int], object] = SecureGenerator.seeded


@dataclass(frozen=True)
class Pair:
    """Two neighbouring tables: some rows, and the same with the canary.

    At weights of zero a row x of class 1 has the gradient -x / 2. The canary is the first unit
    vector: clipped from 50 clip norms to one, it pushes the first weight up and no other.
    """

    others: tuple[tuple[float, int, float], ...] = ()  # value, column and label of each row
    plan: PrivacyPlan = FULL_BATCH
    build: Callable[[int], nn.Module] = linear
    columns: int = COLUMNS
    runs: int = 500
    canary: float = 1.0

    def table(self, *, with_canary: bool) -> Table:
        rows = [*self.others, *([(self.canary, 0, 1.0)] if with_canary else [])]
        features = np.zeros((len(rows), self.columns), np.float32)
        for row, (value, column, _) in zip(features, rows, strict=True):
            row[column] = value
        return Table(features, np.array([label for *_, label in rows], np.float32))

    def noisy_sums(self, table: Table, implementation: Implementation, stream: int) -> Array:
        """Each step's noisy sum of gradients in clip norms, as the plan has it: (steps, columns)."""
        module = self.build(self.columns)
        (weights,) = module.parameters()
        nn.init.zeros_(weights)
        seen = [weights.detach().flatten().numpy().astype(np.float64)]
        hook = register_optimizer_step_post_hook(
            lambda *_: seen.append(weights.detach().flatten().numpy().astype(np.float64))
        )
        try:
            implementation.train(
                module,
                table,
                plan=self.plan,
                hyperparameters=PLAIN,
                generator=implementation.source(stream),
            )
        finally:
            hook.remove()
        assert len(seen) == 1 + self.plan.steps_per_round
        return np.diff(seen, axis=0) * self.plan.expected_batch_size / self.plan.clip_norm

    def neighbours(self, implementation: Implementation) -> Neighbours:
        tables = [self.table(with_canary=present) for present in (False, True)]

        def score(table: Table, stream: int) -> float:
            pushed = self.noisy_sums(table, implementation, stream)[:, 0].sum()
            return float(np.nan_to_num(pushed, nan=np.inf))  # weights that are no numbers tell all

        without, with_canary = tables
        return Neighbours(lambda run: score(without, run), lambda run: score(with_canary, run))


def leak(pair: Pair, implementation: Implementation) -> tuple[float, float]:
    """What the runs show at least, and what the plan claims at most: mu, or epsilon at DELTA."""
    scores = scores_of(pair.neighbours(implementation), runs=pair.runs)
    if pair.plan.sampling_rate == 1:
        claimed = math.sqrt(pair.plan.steps_per_round) / pair.plan.noise_multiplier
        return mu_lower_bound(scores), claimed
    claimed = PldAccountant().epsilon(mechanism_of(pair.plan), delta=DELTA)
    return epsilon_lower_bound(scores, delta=DELTA), claimed


BESIDE = ((0.05, 1, 1.0), (0.05, 2, 0.0))  # rows that leave the canary's direction empty
AGAINST = ((0.05, 0, 0.0),)  # a row that pushes the first weight down
PAIRS = {
    "full batch": Pair(BESIDE),
    "full batch against others": Pair(AGAINST * 4),
    "four steps": Pair(BESIDE, plan(noise_multiplier=1.0, steps_per_round=4)),
    "convolution": Pair(BESIDE, build=convolution),
    "convolution against others": Pair(AGAINST * 4, build=convolution),
    "large batch": Pair(BESIDE, plan(expected_batch_size=1_000_000), columns=100),
    "large batch against others": Pair(
        AGAINST * 4, plan(expected_batch_size=1_000_000), columns=100
    ),
    "sample": Pair((), plan(sampling_rate=0.8, expected_batch_size=1), runs=2000),
    "sample against another": Pair(
        AGAINST, plan(sampling_rate=0.5, expected_batch_size=1), runs=2000
    ),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_the_training_leaks_no_more_than_claimed_and_the_audit_sees_most_of_it(pair: Pair) -> None:
    measured, claimed = leak(pair, Implementation())
    assert measured <= claimed
    if pair.plan.sampling_rate == 1 or not pair.others:  # others' own coins hide the canary
        assert measured >= TEETH * claimed


def noise_of(implementation: Implementation) -> Array:
    """Steps on no rows are noise alone, in its claimed deviations: shape (runs, steps, columns)."""
    pair = Pair(plan=plan(steps_per_round=4))
    table = pair.table(with_canary=False)
    runs = [pair.noisy_sums(table, implementation, stream) for stream in range(250)]
    return np.array(runs) / pair.plan.noise_multiplier


def dependence(noise: Array) -> dict[str, float]:
    """How likely noise repeats as much by chance: between coordinates, steps, successive runs."""
    return {
        "coordinates": dependence_p_value(noise.reshape(-1, noise.shape[2])),
        "steps": dependence_p_value(np.moveaxis(noise, 1, 2).reshape(-1, noise.shape[1])),
        "runs": dependence_p_value(np.stack([noise[:-1].ravel(), noise[1:].ravel()], axis=1)),
    }


def test_its_noise_has_the_claimed_deviation_and_does_not_repeat() -> None:
    noise = noise_of(Implementation())
    low, high = std_interval(noise)
    assert 0.9 < low <= 1 <= high < 1.1
    assert min(dependence(noise).values()) > 1 - CONFIDENCE


@pytest.mark.parametrize("name", ["full batch", "convolution", "large batch"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_record_that_is_not_finite_changes_nothing(name: str, value: float) -> None:
    pair = Pair(BESIDE, PAIRS[name].plan, PAIRS[name].build, PAIRS[name].columns, canary=value)
    without, with_canary = (
        pair.noisy_sums(pair.table(with_canary=present), FAULTS["no noise"], 0)
        for present in (False, True)
    )
    assert without.any()
    np.testing.assert_array_equal(without, with_canary)


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


def clips_the_batch(module: nn.Module, table: Table, *, plan: PrivacyPlan, **rest: object) -> object:
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
        empty = not any(parameter.summed_grad.any() for parameter in optimizer.params)
        add_noise(optimizer)
        if empty:
            for parameter in optimizer.params:
                parameter.grad.zero_()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SecureDPOptimizer, "add_noise", add_noise_to_records)
        return train_locally(*given, **named)


FAULTS = {
    "no noise": Implementation(source=NoNoise.seeded),
    "half the noise": Implementation(
        under(lambda told, _: {"noise_multiplier": told.noise_multiplier / 2})
    ),
    "noise divided by the batch": Implementation(
        under(lambda told, _: {"noise_multiplier": told.noise_multiplier / told.expected_batch_size})
    ),
    "no clipping": Implementation(unclipped),
    "batch clipping": Implementation(clips_the_batch),
    "a fixed seed": Implementation(source=lambda _: SecureGenerator.seeded(0)),
    "the same noise in each step": Implementation(source=RestartsAtEachDraw),
    "a skipped empty batch": Implementation(skips_an_empty_batch),
    "sampling rate from n": Implementation(
        under(lambda told, n: {"sampling_rate": min(1.0, told.expected_batch_size / max(n, 1))})
    ),
    "divisor from n": Implementation(under(lambda _, n: {"expected_batch_size": max(n, 1)})),
}


@pytest.mark.parametrize(
    ("fault", "pair"),
    [
        ("no noise", "full batch"),
        ("half the noise", "full batch"),
        ("noise divided by the batch", "full batch"),
        ("no clipping", "full batch"),
        ("no clipping", "convolution"),
        ("no clipping", "large batch"),
        ("batch clipping", "full batch against others"),
        ("batch clipping", "convolution against others"),
        ("batch clipping", "large batch against others"),
        ("a fixed seed", "full batch"),
        ("a skipped empty batch", "sample"),
        ("sampling rate from n", "sample against another"),
        ("divisor from n", "full batch against others"),
    ],
)
def test_a_fault_that_leaks_is_caught_by_the_bound(fault: str, pair: str) -> None:
    measured, claimed = leak(PAIRS[pair], FAULTS[fault])
    assert measured > claimed


@pytest.mark.parametrize(
    ("fault", "between"),
    [("a fixed seed", "runs"), ("the same noise in each step", "steps")],
)
def test_noise_that_repeats_is_caught_by_its_correlation(fault: str, between: str) -> None:
    assert dependence(noise_of(FAULTS[fault]))[between] < 1e-9


@pytest.mark.parametrize(
    "fault", ["no noise", "half the noise", "noise divided by the batch", "a skipped empty batch"]
)
def test_too_little_noise_is_caught_by_its_deviation(fault: str) -> None:
    _, high = std_interval(noise_of(FAULTS[fault]))
    assert high < 1
