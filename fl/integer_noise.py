"""The integer noise of a round: on each count and, where it is shared, on the quantised update.

    counts = noised_counts(counts, plan=plan, subgroups=1, generator=generator)
    noise = update_noise(parameters, generator=generator)  # None when training has added its own

Under a plan with ``noise_shares`` > 1 no hospital's update is private by itself: each adds a share
of the noise, and the sum over at least so many honest hospitals has all of it. ``fl.secure_round``
sees to it that no smaller sum is opened.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fl.errors import ModelError
from fl.weights import Weights
from privacy.discrete import discrete_gaussian, share_std
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan, require_shareable
from privacy.secagg.parameters import SumParameters

LEAST_COUNT_STD: Final = 1.35
"""Below, the sum of discrete Gaussians is not as good as one; a plan with less gets this."""

LARGEST_WEIGHT: Final = 40.0
"""Up to it, float32 rounds finely enough for ``update_sensitivity`` to hold."""

_ROUNDING: Final = 2.0


def update_sensitivity(
    plan: PrivacyPlan, *, learning_rate: float, dimension: int, step: float
) -> float:
    """Returns by how much one record changes a hospital's quantised update at most: L2, in steps.

    1. The update is -learning_rate * (sum of clipped gradients) / expected_batch_size, for one step
       from the incoming weights: momentum has nothing to carry over yet, and a proximal term is
       zero there. One record changes it by clip_norm * learning_rate / expected_batch_size.
    2. The range clips each element, which moves no two values apart.
    3. Stochastic rounding is floor(x / step + r), with r drawn before and regardless of the record.
       For every r the floors of two values differ by less than the values do, and one. So the
       vectors differ by less than theirs do, and sqrt(dimension).
    4. float32 rounds gradient, product, weight and difference on the way. With weights up to 40 and
       changes up to 4, that is less than one step of 2^-17 an element.

    What holds for every r holds for the mixture over r (joint convexity).

    Raises:
        PlanError: a round of the plan is not one step on all records.
    """
    require_shareable(
        noise_shares=plan.noise_shares,
        sampling_rate=plan.sampling_rate,
        steps_per_round=plan.steps_per_round,
    )
    change = plan.clip_norm * learning_rate / plan.expected_batch_size
    return change / step + _ROUNDING * math.sqrt(dimension)


def update_noise_std(
    plan: PrivacyPlan, *, learning_rate: float, dimension: int, step: float
) -> float:
    """Returns the deviation of each hospital's share of the noise, in steps; 0 if none is shared.

    Raises:
        PlanError: the plan's noise cannot be shared.
    """
    if plan.noise_shares == 1 or dimension == 0:
        return 0.0
    sensitivity = update_sensitivity(
        plan, learning_rate=learning_rate, dimension=dimension, step=step
    )
    return share_std(
        plan.noise_multiplier * sensitivity, shares=plan.noise_shares, dimension=dimension
    )


def update_noise(
    parameters: SumParameters, *, generator: SecureGenerator
) -> NDArray[np.int64] | None:
    """Returns a hospital's share of the noise: int64 (dimension,), or None if none is shared."""
    if not parameters.noise_std:
        return None
    return discrete_gaussian(generator, parameters.dimension, std=parameters.noise_std)


def check_weights(incoming: Weights) -> None:
    """Raises ModelError when weights are so large that float32 rounds more than was reckoned."""
    largest = max((float(np.abs(value).max(initial=0)) for value in incoming.values()), default=0)
    if not largest <= LARGEST_WEIGHT:
        raise ModelError(
            f"a weight of {largest:g}: where noise is shared, weights up to {LARGEST_WEIGHT:g} are "
            "allowed; start again with a smaller learning rate, or with local noise"
        )


def count_noise_std(plan: PrivacyPlan, *, subgroups: int = 0) -> float:
    """Returns the deviation of each hospital's noise on each count.

    1. A held-out row adds one to one count of the whole and, in each of s subgroups, to one count
       of its group or to none. The counts with and without it differ by one in at most 1 + s
       places and are equal elsewhere: an L2 distance of at most sqrt(1 + s). A patient holds out
       one row (`fl.split`), so that is the sensitivity by patients as well.
    2. Independent discrete Gaussians of deviation sigma on integers at an L2 distance of D are
       D² / (2 sigma²)-concentrated private (Canonne, Kamath and Steinke 2020, theorem 4 in each
       place, and composition over places).
    3. With sigma = m sqrt(1 + s) and D ≤ sqrt(1 + s) that is at most 1 / (2 m²), what the ledger
       charges for one release with noise multiplier m, whatever s is
       (`privacy.mechanisms.evaluation_mechanism_of`).

    Where the plan's noise is shared, so is this; a share is never less than 1.35, so that the sum
    is as good as one discrete Gaussian in each of the 1 + s places.

    Args:
        plan: the privacy plan; its evaluation noise multiplier is m.
        subgroups: s, the subgroups whose groups are counted beside the whole, from 0.

    Raises:
        ModelError: fewer subgroups than none.
    """
    if subgroups < 0:
        raise ModelError(f"subgroups {subgroups}: must be a number from 0")
    places, shares = 1 + subgroups, plan.noise_shares
    std = plan.evaluation_noise_multiplier * math.sqrt(places)
    share = max(LEAST_COUNT_STD, std / math.sqrt(shares))
    return share_std(share * math.sqrt(shares), shares=shares, dimension=places)


def noised_counts(
    counts: NDArray[np.int64],
    *,
    plan: PrivacyPlan,
    generator: SecureGenerator,
    subgroups: int = 0,
) -> NDArray[np.int64]:
    """Returns counts with a hospital's noise on each; they may be below zero.

    ``subgroups`` is how many subgroups' groups are counted beside the whole: for one too few, the
    noise is less than the ledger charges.
    """
    std = count_noise_std(plan, subgroups=subgroups)
    return counts + discrete_gaussian(generator, len(counts), std=std)
