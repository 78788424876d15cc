"""The audit of the training that runs: the tables, the adversary, and what it measures.

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

from fl.spec import Hyperparameters
from fl.table import Table
from fl.training import train_locally
from privacy.accounting import PldAccountant
from privacy.audit import (
    Neighbours,
    dependence_p_value,
    epsilon_lower_bound,
    mu_lower_bound,
    scores_of,
)
from privacy.mechanisms import mechanism_of
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan

Array = NDArray[np.float64]
Train = Callable[..., object]
Source = Callable[[int], object]  # from the number of a run to what it draws from

COLUMNS = 3
DELTA = 0.2  # where epsilon is bounded: large, so that some thousand runs see the events it counts
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
class Pair:
    """Two neighbouring tables: some rows, and the same with the canary.

    At weights of zero a row x of class 1 has the gradient -x / 2. The canary is the first unit
    vector: clipped from 50 clip norms to one, it pushes the first weight up and no other.
    """

    others: tuple[tuple[float, int, float], ...] = ()  # value, column and label of each row
    plan: PrivacyPlan = FULL_BATCH
    build: Callable[[int], nn.Module] = linear
    columns: int = COLUMNS
    runs: int = 800
    canary: float = 1.0

    def table(self, *, with_canary: bool) -> Table:
        rows = [*self.others, *([(self.canary, 0, 1.0)] if with_canary else [])]
        features = np.zeros((len(rows), self.columns), np.float32)
        for row, (value, column, _) in zip(features, rows, strict=True):
            row[column] = value
        return Table(features, np.array([label for *_, label in rows], np.float32))

    def noisy_sums(self, table: Table, train: Train, generator: object) -> Array:
        """Each step's noisy sum of gradients in clip norms: shape (steps, columns)."""
        module = self.build(self.columns)
        (weights,) = module.parameters()
        nn.init.zeros_(weights)
        seen = [weights.detach().flatten().numpy().astype(np.float64)]
        hook = register_optimizer_step_post_hook(
            lambda *_: seen.append(weights.detach().flatten().numpy().astype(np.float64))
        )
        try:
            train(module, table, plan=self.plan, hyperparameters=PLAIN, generator=generator)
        finally:
            hook.remove()
        assert len(seen) == 1 + self.plan.steps_per_round
        return np.diff(seen, axis=0) * self.plan.expected_batch_size / self.plan.clip_norm

    def neighbours(self, train: Train, source: Source) -> Neighbours:
        without, with_canary = (self.table(with_canary=present) for present in (False, True))

        def score(table: Table, stream: int) -> float:
            pushed = self.noisy_sums(table, train, source(stream))[:, 0].sum()
            return float(np.nan_to_num(pushed, nan=np.inf))  # weights that are no numbers tell all

        return Neighbours(lambda run: score(without, run), lambda run: score(with_canary, run))


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
    "sample": Pair((), plan(sampling_rate=0.9, expected_batch_size=1), runs=5000),
    "sample against another": Pair(
        AGAINST, plan(sampling_rate=0.5, expected_batch_size=1), runs=1500
    ),
}


def _leak(
    pair: str,
    *,
    runs: int | None = None,
    train: Train = train_locally,
    source: Source = SecureGenerator.seeded,
) -> tuple[float, float]:
    audited = PAIRS[pair]
    scores = scores_of(audited.neighbours(train, source), runs=runs or audited.runs)
    if audited.plan.sampling_rate == 1:
        claimed = math.sqrt(audited.plan.steps_per_round) / audited.plan.noise_multiplier
        return mu_lower_bound(scores), claimed
    claimed = PldAccountant().epsilon(mechanism_of(audited.plan), delta=DELTA)
    return epsilon_lower_bound(scores, delta=DELTA), claimed


def _noise(*, train: Train = train_locally, source: Source = SecureGenerator.seeded) -> Array:
    pair = Pair(plan=plan(steps_per_round=4))
    nobody = pair.table(with_canary=False)
    runs = [pair.noisy_sums(nobody, train, source(stream)) for stream in range(250)]
    return np.array(runs) / pair.plan.noise_multiplier


def _repetition(noise: Array) -> dict[str, float]:
    return {
        "coordinates": dependence_p_value(noise.reshape(-1, noise.shape[2])),
        "steps": dependence_p_value(np.moveaxis(noise, 1, 2).reshape(-1, noise.shape[1])),
        "runs": dependence_p_value(np.stack([noise[:-1].ravel(), noise[1:].ravel()], axis=1)),
    }


@pytest.fixture
def leak() -> Callable[..., tuple[float, float]]:
    """What a pair's runs show at least and its plan claims at most: mu, or epsilon at DELTA."""
    return _leak


@pytest.fixture
def noise() -> Callable[..., Array]:
    """Noise of steps on no rows, in its claimed deviations: shape (runs, steps, columns)."""
    return _noise


@pytest.fixture
def repetition() -> Callable[[Array], dict[str, float]]:
    """How likely noise correlates as much by chance: between coordinates, steps, next runs."""
    return _repetition


@pytest.fixture
def pairs() -> dict[str, Pair]:
    """The audited pairs of tables by name."""
    return PAIRS
