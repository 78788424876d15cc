"""Gaussian differential privacy: the exact price of releases with Gaussian noise and no sampling.

T releases of sensitivity one with noise multiplier sigma are mu-GDP with mu = sqrt(T) / sigma
(Dong, Roth and Su 2022, corollary 3.3), and mu-GDP is (epsilon, delta)-DP exactly for

    delta = Phi(-epsilon / mu + mu / 2) - e^epsilon Phi(-epsilon / mu - mu / 2)

(Balle and Wang 2018, theorem 8).
"""

from __future__ import annotations

import math
from typing import Final

from scipy.optimize import brentq
from scipy.special import log_ndtr

from privacy.errors import PlanError

_MOST_EPSILON: Final = 1e13
_LEAST_MU: Final = 1e-9
_MOST_MU: Final = 1e6
_PRECISION: Final = 1e-15


def delta_of(mu: float, epsilon: float) -> float:
    """Returns the delta at which mu-GDP is (epsilon, delta)-DP.

    >>> round(delta_of(1.0, 0.0), 6)
    0.382925
    """
    above = math.exp(log_ndtr(mu / 2 - epsilon / mu))
    return max(0.0, above - math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu)))


def epsilon_of(mu: float, *, delta: float) -> float:
    """Returns the epsilon at which mu-GDP is (epsilon, delta)-DP; 0 for mu 0.

    Raises:
        PlanError: mu is negative or beyond a million, or delta does not lie in (0, 1).

    >>> round(epsilon_of(1.0, delta=1e-5), 4)
    4.3772
    """
    if not 0 <= mu <= _MOST_MU:
        raise PlanError(f"mu {mu}: must lie in 0 to {_MOST_MU:g}")
    if not 0 < delta < 1:
        raise PlanError(f"delta {delta}: must lie in (0, 1)")
    if mu == 0 or delta_of(mu, 0.0) <= delta:
        return 0.0
    return float(brentq(lambda epsilon: delta_of(mu, epsilon) - delta, 0.0, _MOST_EPSILON))


def mu_of(epsilon: float, *, delta: float) -> float:
    """Returns the largest mu, up to a million, at which mu-GDP is (epsilon, delta)-DP.

    Raises:
        PlanError: epsilon is negative, or delta does not lie in (0, 1).
    """
    if epsilon < 0:
        raise PlanError(f"epsilon {epsilon}: must not be negative")
    if not 0 < delta < 1:
        raise PlanError(f"delta {delta}: must lie in (0, 1)")
    if delta_of(_MOST_MU, epsilon) < delta:
        return _MOST_MU
    return float(
        brentq(lambda mu: delta_of(mu, epsilon) - delta, _LEAST_MU, _MOST_MU, xtol=_PRECISION)
    )
