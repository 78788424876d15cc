"""From the epsilon a person asks for to the noise that keeps a training under it, and back.

plan = plan_for(PrivacyRequest(epsilon=8.0), rounds=10)
price(plan).epsilon_pld  # at most 8
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from privacy.accounting import PldAccountant, RdpAccountant
from privacy.errors import PlanError
from privacy.gaussian_dp import mu_of
from privacy.mechanisms import mechanism_of
from privacy.plan import PrivacyPlan, PrivacyRequest

DEFAULT_EPSILON: Final = 8.0
MOST_EPSILON: Final = 20.0
LEAST_NOISE: Final = 0.3
MOST_NOISE: Final = 1000.0
RELATIVE_STEP: Final = 1e-3

# Whole orders have a closed form. They serve to start the search.
_ROUGH_ORDERS: Final = (*range(2, 16), *range(16, 64, 4), 64, 128, 256, 512, 1024)

# RDP's price lies above PLD's, but never this far: beyond it there is no need to ask PLD.
_RDP_IS_HOPELESS: Final = 4.0


@dataclass(frozen=True, slots=True)
class PlanPrice:
    """What a plan costs each record when all its rounds run.

    Attributes:
        epsilon_pld: by privacy loss distributions; the one to report.
        epsilon_rdp: by Rényi differential privacy, for comparison with other tools.
        delta: the delta of both.
    """

    epsilon_pld: float
    epsilon_rdp: float
    delta: float


def plan_for(request: PrivacyRequest, *, rounds: int) -> PrivacyPlan:
    """Returns the plan with the least noise that meets a request.

    Args:
        request: an epsilon to stay under or a noise multiplier; without either, epsilon is 8.
        rounds: rounds that the training may take, 1 to 1000.

    Returns:
        A plan whose price by PLD is at most the epsilon asked for. Its noise multiplier exceeds
        the smallest that does so by less than 0.1 %, and is never below 0.3.

    Raises:
        PlanError: no noise multiplier up to 1000 keeps the training under epsilon, the noise asked
            for spends more than the largest epsilon that may be asked for, or rounds are out of
            bounds.
    """
    if request.noise_multiplier is not None:
        plan = _plan(request, rounds, request.noise_multiplier)
        _require_meaningful(plan)
        return _with_evaluations(plan, epsilon=_pld(plan))
    epsilon = request.epsilon if request.epsilon is not None else DEFAULT_EPSILON

    rough = RdpAccountant(_ROUGH_ORDERS)

    def by_rdp(noise: float) -> bool:
        mechanism = mechanism_of(_plan(request, rounds, noise))
        return rough.epsilon(mechanism, delta=request.delta) <= epsilon

    def by_pld(noise: float) -> bool:
        return _pld(_plan(request, rounds, noise)) <= epsilon

    # RDP is cheap and errs towards more noise: it bounds the search from above, and keeps PLD away
    # from noise so small that its distributions become huge.
    enough = _smallest(by_rdp, low=LEAST_NOISE, high=MOST_NOISE, tolerance=0.05)
    if not by_pld(enough):
        raise PlanError(
            f"epsilon {epsilon} at delta {request.delta}: no noise multiplier up to {MOST_NOISE:g} "
            f"keeps {rounds} rounds of {_steps(request)} steps under it; allow a larger epsilon, "
            "or fewer rounds, fewer steps or a smaller sampling rate"
        )
    low = enough
    while low > LEAST_NOISE and by_pld(low):
        enough, low = low, max(LEAST_NOISE, low * 0.9)
    noise = _smallest(by_pld, low=low, high=enough, tolerance=RELATIVE_STEP)
    return _with_evaluations(_plan(request, rounds, noise), epsilon=epsilon)


def price(plan: PrivacyPlan) -> PlanPrice:
    """Returns what a plan costs each record when all its rounds run."""
    return PlanPrice(epsilon_pld=_pld(plan), epsilon_rdp=_rdp(plan), delta=plan.delta)


def _smallest(
    enough: Callable[[float], bool], *, low: float, high: float, tolerance: float
) -> float:
    """Bisects a monotone condition on a logarithmic scale; ``high`` when nothing below meets it."""
    if enough(low):
        return low
    while high / low > 1 + tolerance:
        middle = math.sqrt(low * high)
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def _with_evaluations(plan: PrivacyPlan, *, epsilon: float) -> PrivacyPlan:
    """Returns the plan with the least noise on its evaluations that keeps them under epsilon.

    A row is trained on or held out, never both: the plan's price is the larger of both.
    """
    evaluations = plan.rounds + 1  # one in each round, of the weights it starts from, and the last
    noise = math.sqrt(evaluations) / mu_of(epsilon, delta=plan.delta)
    return plan.model_copy(
        update={"evaluation_noise_multiplier": min(max(noise, LEAST_NOISE), MOST_NOISE)}
    )


def _plan(request: PrivacyRequest, rounds: int, noise_multiplier: float) -> PrivacyPlan:
    try:
        return PrivacyPlan(
            clip_norm=request.clip_norm,
            noise_multiplier=noise_multiplier,
            noise_shares=request.noise_shares,
            evaluation_noise_multiplier=MOST_NOISE,
            sampling_rate=request.sampling_rate,
            expected_batch_size=request.expected_batch_size,
            steps_per_round=_steps(request),
            rounds=rounds,
            delta=request.delta,
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise PlanError(f"{name} {first['input']}: {first['msg']}") from error


def _steps(request: PrivacyRequest) -> int:
    """One pass over the data in expectation, unless the request says otherwise."""
    if request.steps_per_round is not None:
        return request.steps_per_round
    return max(1, round(1 / request.sampling_rate))


def _require_meaningful(plan: PrivacyPlan) -> None:
    epsilon = _rdp(plan)
    if epsilon <= _RDP_IS_HOPELESS * MOST_EPSILON:
        epsilon = _pld(plan)
    if epsilon > MOST_EPSILON:
        raise PlanError(
            f"noise_multiplier {plan.noise_multiplier}: {plan.rounds} rounds of "
            f"{plan.steps_per_round} steps would spend epsilon {epsilon:.1f} at delta "
            f"{plan.delta}, more than {MOST_EPSILON:g}; ask for more noise, fewer rounds or "
            "fewer steps"
        )


def _pld(plan: PrivacyPlan) -> float:
    return PldAccountant().epsilon(mechanism_of(plan), delta=plan.delta)


def _rdp(plan: PrivacyPlan) -> float:
    return RdpAccountant().epsilon(mechanism_of(plan), delta=plan.delta)
