"""What a training released, as frozen values that an accountant can price.

What happened is one thing, what it costs another: a mechanism carries no epsilon, and an accountant
changes no mechanism.

    price = tightest_accountant(mechanism).epsilon(mechanism_of(plan, rounds=3), delta=plan.delta)
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TypeAlias

from privacy.errors import PlanError, UnknownMechanism
from privacy.plan import PrivacyPlan, require_shareable


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
class DiscreteGaussian:
    """A sum of integers, released once with integer noise of the discrete Gaussian distribution.

    Its concentrated privacy is that of the Gaussian with the same noise multiplier
    (Canonne, Kamath and Steinke 2020, theorem 4: 1/2 epsilon^2-concentrated with epsilon =
    sensitivity / sigma); its (epsilon, delta) curve is not.

    A sum of several hospitals' discrete Gaussians counts as one, of the summed variance, when no
    share is too narrow (Kairouz, Liu and Steinke 2021, theorem 1: with shares of four integer steps
    both differ by less than 1e-60 of any probability). Whoever draws the shares sees to it.

    Attributes:
        noise_multiplier: sigma in integer steps, divided by the L2 sensitivity in integer steps
            (rounding to integers included); above 0.

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


Release: TypeAlias = Gaussian | DiscreteGaussian | PoissonSubsampledGaussian
Mechanism: TypeAlias = Release | Repeated | Composed


def tally(mechanism: Mechanism) -> Counter[Release]:
    """Returns how often each release happened; a price depends on nothing else.

    A Poisson sample at rate 1 is everybody, and counts as ``Gaussian``.

    Raises:
        UnknownMechanism: the mechanism, or any part of it, even one repeated 0 times, is none.

    >>> step = Gaussian(2.0)
    >>> tally(Composed((Repeated(step, 3), step, Repeated(PoissonSubsampledGaussian(2.0, 1), 0))))
    Counter({Gaussian(noise_multiplier=2.0): 4})
    """
    match mechanism:
        case Gaussian() | DiscreteGaussian():
            return Counter({mechanism: 1})
        case PoissonSubsampledGaussian(noise_multiplier, sampling_rate):
            return Counter({Gaussian(noise_multiplier) if sampling_rate == 1 else mechanism: 1})
        case Repeated(part, count):
            return +Counter({release: n * count for release, n in tally(part).items()})
        case Composed(parts):
            total: Counter[Release] = Counter()
            for part in parts:
                total.update(tally(part))
            return total
        case _:
            raise UnknownMechanism(
                f"{type(mechanism).__name__}: no accountant knows this mechanism, "
                "so it has no price; add it to privacy.mechanisms and privacy.accounting"
            )


def mechanism_of(plan: PrivacyPlan, *, rounds: int | None = None) -> Mechanism:
    """Returns what the rows that a hospital trains on released after some rounds of a plan.

    The order of clip, sample, sum and noise makes a step a sum of sensitivity ``clip_norm`` under
    adding or removing one record; the clip norm itself then cancels. Where noise is shared, it is
    what the sum released, seen by anyone who lacks the shares of ``noise_shares`` hospitals.

    Args:
        plan: the privacy plan.
        rounds: rounds that have run, 0 to ``plan.rounds``; all when not given.

    Raises:
        PlanError: the plan does not allow that many rounds, or cannot share its noise.

    >>> plan = PrivacyPlan(clip_norm=1, noise_multiplier=1.5, sampling_rate=0.25, steps_per_round=4,
    ...                    expected_batch_size=32, rounds=10, delta=1e-5,
    ...                    evaluation_noise_multiplier=4)
    >>> mechanism_of(plan, rounds=2).count
    8
    """
    return _released(plan, rounds=rounds, noise_multiplier=plan.noise_multiplier)


def local_mechanism_of(plan: PrivacyPlan, *, rounds: int | None = None) -> Mechanism:
    """Returns what those rows released if all other hospitals colluded with the coordinator.

    A hospital's own masked update carries one of ``plan.noise_shares`` shares of the variance; with
    one share this is ``mechanism_of``.

    Raises:
        PlanError: see ``mechanism_of``.
    """
    share = plan.noise_multiplier / math.sqrt(plan.noise_shares)
    return _released(plan, rounds=rounds, noise_multiplier=share)


def evaluation_mechanism_of(plan: PrivacyPlan, *, evaluations: int | None = None) -> Mechanism:
    """Returns what one hospital's held-out rows released in some evaluations of a plan.

    A row adds one to one count, which has sensitivity one, or to one more for each subgroup that is
    counted; then the noise is wider by as much as the sensitivity. It is of integers.

    Args:
        plan: the privacy plan.
        evaluations: how many have run; all that the plan has when not given.
    """
    evaluations = plan.all_evaluations if evaluations is None else evaluations
    return Repeated(DiscreteGaussian(plan.evaluation_noise_multiplier), evaluations)


def _released(plan: PrivacyPlan, *, rounds: int | None, noise_multiplier: float) -> Repeated:
    rounds = plan.rounds if rounds is None else rounds
    if not 0 <= rounds <= plan.rounds:
        raise PlanError(f"rounds {rounds}: the plan allows 0 to {plan.rounds}")
    if plan.noise_shares > 1:
        # A copy of a plan may have evaded its validation.
        require_shareable(
            noise_shares=plan.noise_shares,
            sampling_rate=plan.sampling_rate,
            steps_per_round=plan.steps_per_round,
        )
        return Repeated(DiscreteGaussian(noise_multiplier), rounds)
    step = PoissonSubsampledGaussian(noise_multiplier, plan.sampling_rate)
    return Repeated(step, rounds * plan.steps_per_round)


def _require_noise(noise_multiplier: float) -> None:
    if not (math.isfinite(noise_multiplier) and noise_multiplier > 0):
        raise PlanError(f"noise_multiplier {noise_multiplier}: must be a finite number above 0")
