"""Models whose scores are drawn, so that the truth about them is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from fl.evaluation import BINS, EDGES, ScoreHistogram


@dataclass(frozen=True)
class Population:
    """Shares of both classes by bin, of a model that separates them so far."""

    negatives: NDArray[np.float64]
    positives: NDArray[np.float64]

    @property
    def auc(self) -> float:
        below = np.cumsum(self.negatives) - self.negatives
        return float(self.positives @ (below + self.negatives / 2))

    def draw(
        self, rows: int, *, noise_std: float, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Counts of so many rows, a third of them positive, and noise on each."""
        positives = generator.binomial(rows, 0.35)
        counts = np.concatenate(
            [
                generator.multinomial(rows - positives, self.negatives),
                generator.multinomial(positives, self.positives),
            ]
        )
        noise = np.rint(generator.normal(0, noise_std, 2 * BINS)) if noise_std else 0
        return (counts + noise).astype(np.int64)


def _population(distance: float, scale: float) -> Population:
    """Logits scale * (normal ± distance / 2)."""
    logits = np.random.default_rng(0).normal(0, 1, 100_000)

    def shares(shift: float) -> NDArray[np.float64]:
        scores = 1 / (1 + np.exp(-scale * (logits + shift)))
        return np.histogram(scores, EDGES)[0] / len(scores)

    return Population(shares(-distance / 2), shares(distance / 2))


@pytest.fixture
def population() -> Callable[[float, float], Population]:
    """Makes a population of scores: distance of the classes, scale of the logits."""
    return _population


@pytest.fixture
def separable() -> ScoreHistogram:
    """Two classes of 50 and 30 that no bin mixes."""
    counts = np.zeros(2 * BINS, np.int64)
    counts[0], counts[-1] = 50, 30
    return ScoreHistogram.from_counts(counts)
