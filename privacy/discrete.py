"""Integer noise: the discrete Gaussian, drawn from the keystream of a ``SecureGenerator``.

    noise = discrete_gaussian(generator, 31, std=40.0)  # int64
    std = share_std(40.0, shares=4, dimension=31)       # of each of four that add up to it

The value x has probability proportional to exp(-x^2 / (2 std^2)), over all integers. Integers can
be added to integers without rounding, so that nothing is left for the last bits to tell. In
concentrated differential privacy it costs what continuous noise of the same deviation does
(Canonne, Kamath and Steinke 2020, theorem 4).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import PlanError
from privacy.noise import SecureGenerator

LEAST_STD: Final = 0.5
MOST_STD: Final = 1e9
MOST_EXCESS: Final = 1e-6
"""What a sum of shares may add to the loss of one Gaussian, as part of the least that is priced."""

# What a processor's cache holds, as for continuous noise.
_BLOCK: Final = 1 << 14
_WORDS: Final = 5  # of 64 bits, for one attempt


def discrete_gaussian(generator: SecureGenerator, count: int, *, std: float) -> NDArray[np.int64]:
    """Returns independent values of a discrete Gaussian: int64, shape (count,).

    Canonne, Kamath and Steinke 2020, "The discrete Gaussian for differential privacy", algorithm 3:
    values of a discrete Laplace distribution of scale t = floor(std) + 1 (algorithm 2), of which y
    is kept with probability exp(-(|y| - std^2 / t)^2 / (2 std^2)); about half of the attempts are
    kept.

    The paper's coins are exact. Here a coin of probability exp(-x) compares x with the logarithm of
    a 64-bit uniform, in float64: it is right to a relative 2^-45 and an absolute 2^-64. So the
    distribution lies within 2^-40 of the ideal one in total variation, and the probability of each
    value within 7 deviations is right to a relative 2^-25. How many attempts are discarded depends
    on the noise, never on what it is added to.

    Args:
        generator: where the randomness comes from.
        count: number of values, from 0.
        std: 0.5 to 1e9; the values' deviation, which is 7 % less at 0.5 and equal from 1 on.

    Raises:
        PlanError: the deviation is out of its bounds.
    """
    if not LEAST_STD <= std <= MOST_STD:
        raise PlanError(f"std {std}: must lie in {LEAST_STD:g} to {MOST_STD:g}")
    values = np.empty(count, np.int64)
    filled = 0
    while filled < count:
        attempts = min(_BLOCK, 2 * (count - filled) + 16)
        kept = _attempts(generator, attempts, std)[: count - filled]
        values[filled : filled + len(kept)] = kept
        filled += len(kept)
    return values


def share_std(std: float, *, shares: int, dimension: int) -> float:
    """Returns the deviation of each of several shares whose sum has a given deviation.

    A sum of discrete Gaussians is not one, but nearly: it adds to the loss of sensitivity / std at
    most ``excess * sqrt(dimension)`` (Kairouz, Liu and Steinke 2021, "The distributed discrete
    Gaussian mechanism", theorem 1), with the excess of ``excess_of_sum``.

    Args:
        std: of the sum.
        shares: how many add up to it, from 1.
        dimension: elements that one record may change.

    Raises:
        PlanError: the shares' deviation is so small that the excess is not negligible.
    """
    if shares < 1:
        raise PlanError(f"shares {shares}: at least 1 is needed")
    share = std / math.sqrt(shares)
    excess = excess_of_sum(share, shares=shares) * math.sqrt(dimension)
    if excess > MOST_EXCESS:
        raise PlanError(
            f"std {std:g} among {shares} shares: each has {share:.3g}, too little for their sum to "
            f"be as good as one Gaussian (excess {excess:.1e}, at most {MOST_EXCESS:g}); take more "
            "noise or fewer shares"
        )
    return share


def excess_of_sum(std: float, *, shares: int) -> float:
    """Returns the tau of Kairouz, Liu and Steinke 2021, theorem 1: 0 for one share.

    >>> excess_of_sum(1.0, shares=1), f"{excess_of_sum(1.0, shares=2):.1e}"
    (0.0, '5.2e-04')
    """
    return 10.0 * sum(math.exp(-2 * math.pi**2 * std**2 * k / (k + 1)) for k in range(1, shares))


def _attempts(generator: SecureGenerator, attempts: int, std: float) -> NDArray[np.int64]:
    """Returns what is kept of so many attempts of algorithm 3."""
    scale = math.floor(std) + 1
    words = np.frombuffer(generator.bytes(8 * _WORDS * attempts), "<u8").reshape(_WORDS, attempts)
    uniform, signs, coins = words[0], words[1], words[2:]
    # Whole multiples of the scale alone, so that the remainder is uniform.
    kept = uniform < np.uint64(2**64 - 1 - (2**64 - 1) % scale)
    remainder = (uniform % np.uint64(scale)).astype(np.int64)
    kept &= _exponential(coins[0]) >= remainder / scale
    multiple = np.floor(_exponential(coins[1])).astype(np.int64)
    magnitude = remainder + scale * multiple
    negative = (signs & np.uint64(1)).astype(np.bool_)
    kept &= ~(negative & (magnitude == 0))  # else zero would come up twice as often
    distance = (magnitude - std * (std / scale)) / std
    kept &= _exponential(coins[2]) >= distance * distance / 2
    values: NDArray[np.int64] = np.where(negative, -magnitude, magnitude)[kept]
    return values


def _exponential(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Returns exponential values of mean 1: at least x with probability exp(-x)."""
    uniform = words.astype(np.float64)
    uniform += 0.5
    uniform *= 2.0**-64
    return -np.log(uniform)
