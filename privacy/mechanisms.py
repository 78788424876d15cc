"""What a training released, as frozen values that an accountant can price.

What happened is one thing, what it costs another: a mechanism carries no epsilon, and an accountant
changes no mechanism.

    price = PldAccountant().epsilon(mechanism_of(plan, rounds=3), delta=plan.delta)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from privacy.errors import PlanError
from privacy.plan import PrivacyPlan


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A sum of sensitivity one, released once with Gaussian noise.

    Attributes:
        noise_multiplier: standard deviation of the noise in units of the sensitivity, above 0.

    Raises:
        PlanError: the noise multiplier is not a finite number above 0.
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        _require_noise(self.noise_multiplier)


@dataclass(frozen=True, slots=True)
class PoissonSubsampledGaussian:
    """A sum over a Poisson sample, released once with Gaussian noise (Abadi et al. 2016, §3.1).

    Attributes:
        noise_multiplier: standard deviation of the noise in units of the sensitivity, above 0.
        sampling_rate: probability with which each record enters the sample, on its own; in (0, 1].

    Raises:
        PlanError: a value is out of its bounds.
    """

    noise_multiplier: float
    sampling_rate: float

    def __post_init__(self) -> None:
        _require_noise(self.noise_multiplier)
        if not 0 < self.sampling_rate <= 1:
            raise PlanError(f"sampling_rate {self.sampling_rate}: must lie in (0, 1]")


@dataclass(frozen=True, slots=True)
class Repeated:
    """One mechanism, applied ``count`` times to the same records, each time knowing the results.

    Raises:
        PlanError: the count is negative.
    """

    mechanism: Mechanism
    count: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise PlanError(f"count {self.count}: must not be negative")


@dataclass(frozen=True, slots=True)
class Composed:
    """Several mechanisms on the same records, in order; without parts nothing was released."""

    parts: tuple[Mechanism, ...]


Mechanism: TypeAlias = Gaussian | PoissonSubsampledGaussian | Repeated | Composed


def mechanism_of(plan: PrivacyPlan, *, rounds: int | None = None) -> Mechanism:
    """Returns what one hospital's records released after some rounds of a plan.

    The order of clip, sample, sum and noise makes a step a sum of sensitivity ``clip_norm`` under
    adding or removing one record; the clip norm itself then cancels.

    Args:
        plan: the privacy plan.
        rounds: rounds that have run, 0 to ``plan.rounds``; all when not given.

    Raises:
        PlanError: the plan does not allow that many rounds.

    >>> plan = PrivacyPlan(clip_norm=1, noise_multiplier=1.5, sampling_rate=0.25, steps_per_round=4,
    ...                    expected_batch_size=32, rounds=10, delta=1e-5,
    ...                    evaluation_noise_multiplier=4)
    >>> mechanism_of(plan, rounds=2).count
    8
    """
    rounds = plan.rounds if rounds is None else rounds
    if not 0 <= rounds <= plan.rounds:
        raise PlanError(f"rounds {rounds}: the plan allows 0 to {plan.rounds}")
    step = PoissonSubsampledGaussian(plan.noise_multiplier, plan.sampling_rate)
    return Repeated(step, rounds * plan.steps_per_round)


def evaluation_mechanism_of(plan: PrivacyPlan, *, evaluations: int | None = None) -> Mechanism:
    """Returns what one hospital's held-out rows released in some evaluations of a plan.

    A row adds one to one count, so the counts have sensitivity one.

    Args:
        plan: the privacy plan.
        evaluations: how many have run; one more than ``plan.rounds`` when not given.
    """
    evaluations = plan.rounds + 1 if evaluations is None else evaluations
    return Repeated(Gaussian(plan.evaluation_noise_multiplier), evaluations)


def _require_noise(noise_multiplier: float) -> None:
    if not (math.isfinite(noise_multiplier) and noise_multiplier > 0):
        raise PlanError(f"noise_multiplier {noise_multiplier}: must be a finite number above 0")
