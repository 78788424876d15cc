"""From the epsilon a person asks for to the noise that keeps a training under it, and back.

plan = plan_for(PrivacyRequest(epsilon=8.0), rounds=10)
price(plan).epsilon  # at most 8

Full-batch plans and evaluations have closed forms; plans with sampling are searched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from pydantic import ValidationError

from privacy import gaussian_dp, zcdp
from privacy.accounting import Accountant, PldAccountant, RdpAccountant
from privacy.errors import PlanError
from privacy.mechanisms import mechanism_of
from privacy.plan import DEFAULT_CLIP_NORM, PrivacyPlan, PrivacyRequest
from privacy.pricing import declared_epsilon

DEFAULT_EPSILON: Final = 8.0
MOST_EPSILON: Final = 20.0
LEAST_NOISE: Final = 0.3
MOST_NOISE: Final = 1000.0
RELATIVE_STEP: Final = 1e-3

# Closed forms are exact but for rounding: with so much more noise no price exceeds epsilon.
_ROUNDING: Final = 1 + 1e-9

_LEAST_EPSILON: Final = 1e-6

# Whole orders have a closed form. They serve to start the search.
_ROUGH_ORDERS: Final = (*range(2, 16), *range(16, 64, 4), 64, 128, 256, 512, 1024)

# RDP's price lies above the others', but never this far: beyond it there is no need to ask them.
_RDP_IS_HOPELESS: Final = 4.0


def plan_for(request: PrivacyRequest, *, rounds: int) -> PrivacyPlan:
    """Returns the plan with the least noise that meets a request.

    Args:
        request: an epsilon to stay under or a noise multiplier; without either, epsilon is 8.
        rounds: rounds that the training may take, 1 to 1000.

    Returns:
        A plan whose price, that of rows trained on and that of held-out rows, is at most the
        epsilon asked for. Its noise multiplier is the smallest that does so, with sampling up to
        0.1 % more, and never below 0.3.

    Raises:
        PlanError: no noise multiplier up to 1000 keeps the training under epsilon, the noise asked
            for spends more than the largest epsilon that may be asked for, or a value is out of
            bounds.
    """
    if request.noise_multiplier is not None:
        plan = _plan(request, rounds, request.noise_multiplier)
        return _with_evaluations(plan, noise=_evaluation_noise(plan, _meaningful_epsilon(plan)))
    epsilon = request.epsilon if request.epsilon is not None else DEFAULT_EPSILON
    most = _plan(request, rounds, MOST_NOISE)
    noise = max(_least_noise(most, epsilon), LEAST_NOISE)
    evaluation_noise = _evaluation_noise(most, epsilon)
    if max(noise, evaluation_noise) > MOST_NOISE:
        raise PlanError(
            f"epsilon {epsilon} at delta {request.delta}: no noise multiplier up to {MOST_NOISE:g} "
            f"keeps {rounds} rounds of {most.steps_per_round} steps and {most.all_evaluations} "
            "evaluations under it; allow a larger epsilon, or fewer rounds, fewer steps or a "
            "smaller sampling rate"
        )
    return _with_evaluations(_plan(request, rounds, noise), noise=evaluation_noise)


def _least_noise(plan: PrivacyPlan, epsilon: float) -> float:
    """The least noise multiplier that keeps a plan's rows under epsilon; may exceed MOST_NOISE."""
    steps = plan.rounds * plan.steps_per_round
    if plan.noise_shares > 1:
        return _integer_noise(steps, epsilon=epsilon, delta=plan.delta)
    if plan.sampling_rate == 1:
        return math.sqrt(steps) / gaussian_dp.mu_of(epsilon, delta=plan.delta) * _ROUNDING
    return _searched_noise(plan, epsilon)


def _evaluation_noise(plan: PrivacyPlan, epsilon: float) -> float:
    """The least noise on evaluations that keeps held-out rows under epsilon."""
    # Where nothing at all is spent, no noise would be enough: then the bounds of a plan decide.
    return _integer_noise(
        plan.all_evaluations, epsilon=max(epsilon, _LEAST_EPSILON), delta=plan.delta
    )


def _integer_noise(releases: int, *, epsilon: float, delta: float) -> float:
    return math.sqrt(releases / (2 * zcdp.rho_of(epsilon, delta=delta))) * _ROUNDING


def _searched_noise(plan: PrivacyPlan, epsilon: float) -> float:
    rough = RdpAccountant(_ROUGH_ORDERS)

    def spent(accountant: Accountant, noise: float) -> float:
        mechanism = mechanism_of(plan.model_copy(update={"noise_multiplier": noise}))
        return accountant.epsilon(mechanism, delta=plan.delta)

    def by_rdp(noise: float) -> bool:
        return spent(rough, noise) <= epsilon

    def by_pld(noise: float) -> bool:
        return spent(PldAccountant(), noise) <= epsilon

    if spent(rough, MOST_NOISE) > _RDP_IS_HOPELESS * epsilon:
        return math.inf

    # RDP is cheap and errs towards more noise: it bounds the search from above, and keeps PLD away
    # from noise so small that its distributions become huge.
    enough = _smallest(by_rdp, low=LEAST_NOISE, high=MOST_NOISE, tolerance=0.05)
    if not by_pld(enough):
        return math.inf
    low = enough
    while low > LEAST_NOISE and by_pld(low):
        enough, low = low, max(LEAST_NOISE, low * 0.9)
    return _smallest(by_pld, low=low, high=enough, tolerance=RELATIVE_STEP)


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


def _with_evaluations(plan: PrivacyPlan, *, noise: float) -> PrivacyPlan:
    bounded = min(max(noise, LEAST_NOISE), MOST_NOISE)
    return plan.model_copy(update={"evaluation_noise_multiplier": bounded})


def _plan(request: PrivacyRequest, rounds: int, noise_multiplier: float) -> PrivacyPlan:
    try:
        return PrivacyPlan(
            clip_norm=request.clip_norm if request.clip_norm is not None else DEFAULT_CLIP_NORM,
            noise_multiplier=noise_multiplier,
            noise_shares=request.noise_shares,
            evaluation_noise_multiplier=MOST_NOISE,
            sampling_rate=request.rate,
            expected_batch_size=request.expected_batch_size,
            steps_per_round=request.steps,
            rounds=rounds,
            evaluations=request.evaluations,
            evaluation_interval=request.evaluation_interval or 1,
            delta=request.delta,
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        # What concerns several values at once names them itself.
        raise PlanError(
            f"{name} {first['input']}: {first['msg']}" if name else first["msg"]
        ) from error


def _meaningful_epsilon(plan: PrivacyPlan) -> float:
    epsilon = RdpAccountant().epsilon(mechanism_of(plan), delta=plan.delta)
    if epsilon <= _RDP_IS_HOPELESS * MOST_EPSILON:
        epsilon = declared_epsilon(mechanism_of(plan), delta=plan.delta)
    if epsilon > MOST_EPSILON:
        raise PlanError(
            f"noise_multiplier {plan.noise_multiplier}: {plan.rounds} rounds of "
            f"{plan.steps_per_round} steps would spend epsilon {epsilon:.1f} at delta "
            f"{plan.delta}, more than {MOST_EPSILON:g}; ask for more noise, fewer rounds or "
            "fewer steps"
        )
    return epsilon
