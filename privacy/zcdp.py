"""Zero-concentrated differential privacy: the price of integer noise and of its mixtures.

T releases of sensitivity one with (discrete) Gaussian noise of multiplier sigma are rho-zCDP with
rho = T / (2 sigma^2): (alpha, rho alpha)-RDP at every order alpha above 1 (Bun and Steinke 2016;
Canonne, Kamath and Steinke 2020, theorem 4). The conversion is the best known from RDP, at the best
of all orders (the latter paper, proposition 12):

    epsilon = min over alpha of  rho alpha + log(1 - 1/alpha) - log(delta alpha) / (alpha - 1)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from scipy.optimize import minimize_scalar

from privacy.errors import PlanError

# Bounds of log(alpha - 1). Every order gives a valid bound; the best one lies inside for any rho
# between 1e-11 and 1e6.
_LEAST_ORDER: Final = math.log(1e-4)
_MOST_ORDER: Final = math.log(1e8)


def epsilon_of(rho: float, *, delta: float) -> float:
    """Returns an epsilon at which rho-zCDP implies (epsilon, delta)-DP; 0 for rho 0.

    Raises:
        PlanError: rho is negative or not finite, or delta does not lie in (0, 1).

    >>> round(epsilon_of(0.5, delta=1e-5), 4)
    4.7284
    """
    if not (math.isfinite(rho) and rho >= 0):
        raise PlanError(f"rho {rho}: must be a finite number of at least 0")
    _require_delta(delta)
    if rho == 0:
        return 0.0
    return max(0.0, _least(lambda order: rho * order + _conversion(order, delta)))


def rho_of(epsilon: float, *, delta: float) -> float:
    """Returns the largest rho for which ``epsilon_of`` is at most epsilon.

    Raises:
        PlanError: epsilon is not above 0, or delta does not lie in (0, 1).
    """
    if not epsilon > 0:
        raise PlanError(f"epsilon {epsilon}: must be above 0")
    _require_delta(delta)
    return -_least(lambda order: (_conversion(order, delta) - epsilon) / order)


def _conversion(order: float, delta: float) -> float:
    return math.log1p(-1 / order) - math.log(delta * order) / (order - 1)


def _least(bound: Callable[[float], float]) -> float:
    """The log of delta is convex in the order, so that each bound falls, then rises."""
    found = minimize_scalar(
        lambda log_order: bound(1 + math.exp(log_order)),
        bounds=(_LEAST_ORDER, _MOST_ORDER),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(found.fun)


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise PlanError(f"delta {delta}: must lie in (0, 1)")
