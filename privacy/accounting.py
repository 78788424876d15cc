"""What a mechanism costs: epsilon at a delta, under adding or removing one record.

Two accountants over dp-accounting, with one way in:

- ``PldAccountant``: privacy loss distributions, discretised pessimistically (Koskela et al. 2020;
  Doroshenko et al. 2022). Tight; the price of a declared plan.
- ``RdpAccountant``: Rényi differential privacy (Mironov 2017; Mironov et al. 2019). Looser, cheap,
  and valid while a training goes on.

    PldAccountant().epsilon(mechanism_of(plan), delta=1e-5)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import dp_accounting
from dp_accounting import pld, rdp

from privacy.errors import PlanError, UnknownMechanism
from privacy.mechanisms import (
    Composed,
    Gaussian,
    Mechanism,
    PoissonSubsampledGaussian,
    Repeated,
    mechanism_of,
)
from privacy.plan import PrivacyPlan

_ADD_OR_REMOVE: Final = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE

# The loss of one step spreads by about q / sigma. Discretised this much finer, the pessimism adds
# less than 1e-3 of epsilon (measured from q / sigma = 2e-2 down to 1e-3; it falls with the square).
_INTERVALS_PER_SPREAD: Final = 20
_FINEST_INTERVAL: Final = 1e-6
_COARSEST_INTERVAL: Final = 1e-3

RDP_ORDERS: Final = (
    *(tenths / 10 for tenths in range(20, 110)),
    *range(11, 64),
    *(64, 80, 96, 128, 192, 256, 512, 1024),
)
"""Orders at which RDP is evaluated: dp-accounting's, with more of the large ones that matter for
small epsilons, and without those below 2. The best order lies below 2 only for epsilons that no
plan may spend, and there the series for fractional orders often does not converge."""


class Accountant(Protocol):
    """Prices a mechanism; it keeps no state between two calls."""

    name: str

    def epsilon(self, mechanism: Mechanism, *, delta: float) -> float:
        """Returns an upper bound of epsilon at this delta.

        Args:
            mechanism: what was released.
            delta: in (0, 1).

        Raises:
            UnknownMechanism: the mechanism, or any part of it, is none this accountant knows.
            PlanError: delta is out of its bounds.
        """
        ...


class PldAccountant:
    """Prices by privacy loss distributions.

    >>> round(PldAccountant().epsilon(Gaussian(noise_multiplier=1.0), delta=1e-5), 2)
    4.38
    """

    name = "pld"

    def epsilon(self, mechanism: Mechanism, *, delta: float) -> float:
        """Returns an upper bound of epsilon; see ``Accountant.epsilon``."""
        _require_delta(delta)
        event = _event_of(mechanism)  # the whole of it is known before any of it is priced
        accountant = pld.PLDAccountant(_ADD_OR_REMOVE, _interval(mechanism))
        return float(accountant.compose(event).get_epsilon(delta))


class RdpAccountant:
    """Prices by Rényi differential privacy; fewer orders cost less time and a looser bound.

    Args:
        orders: the orders to choose from, each above 1.
    """

    name = "rdp"

    def __init__(self, orders: Sequence[float] = RDP_ORDERS) -> None:
        self._orders = tuple(orders)

    def epsilon(self, mechanism: Mechanism, *, delta: float) -> float:
        """Returns an upper bound of epsilon; see ``Accountant.epsilon``."""
        _require_delta(delta)
        event = _event_of(mechanism)
        accountant = rdp.RdpAccountant(self._orders, neighboring_relation=_ADD_OR_REMOVE)
        return float(accountant.compose(event).get_epsilon(delta))


def adaptive_epsilon(mechanism: Mechanism, *, delta: float) -> float:
    """Returns an upper bound of epsilon that holds when each part was chosen knowing the results.

    Raises:
        UnknownMechanism, PlanError: see ``Accountant.epsilon``.
    """
    return RdpAccountant().epsilon(mechanism, delta=delta)


def epsilon_by_round(plan: PrivacyPlan) -> tuple[float, ...]:
    """Returns the epsilon spent after round 1, 2, ... ``plan.rounds``, by PLD at the plan's delta.

    The last entry is the plan's price by PLD, up to the rounding of the convolutions (1e-6 of it).
    A hundred rounds take about a second.
    """
    one_round = pld.privacy_loss_distribution.from_gaussian_mechanism(
        standard_deviation=plan.noise_multiplier,
        sampling_prob=plan.sampling_rate,
        value_discretization_interval=_interval(mechanism_of(plan)),
        neighboring_relation=_ADD_OR_REMOVE,
    ).self_compose(plan.steps_per_round)
    spent = one_round
    epsilons = [float(spent.get_epsilon_for_delta(plan.delta))]
    for _ in range(plan.rounds - 1):
        spent = spent.compose(one_round)
        epsilons.append(float(spent.get_epsilon_for_delta(plan.delta)))
    return tuple(epsilons)


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise PlanError(f"delta {delta}: must lie in (0, 1)")


def _event_of(mechanism: Mechanism) -> dp_accounting.DpEvent:
    """Translates a mechanism, whole or not at all."""
    match mechanism:
        case Gaussian(noise_multiplier):
            return dp_accounting.GaussianDpEvent(noise_multiplier)
        case PoissonSubsampledGaussian(noise_multiplier, sampling_rate):
            gaussian = dp_accounting.GaussianDpEvent(noise_multiplier)
            # Without sampling, the exact composition of Gaussians applies.
            if sampling_rate == 1:
                return gaussian
            return dp_accounting.PoissonSampledDpEvent(sampling_rate, gaussian)
        case Repeated(part, count):
            event = _event_of(part)
            if count == 0:
                return dp_accounting.NoOpDpEvent()
            return dp_accounting.SelfComposedDpEvent(event, count)
        case Composed(parts):
            return dp_accounting.ComposedDpEvent([_event_of(part) for part in parts])
        case _:
            raise UnknownMechanism(
                f"{type(mechanism).__name__}: no accountant knows this mechanism, "
                "so it has no price; add it to privacy.mechanisms and privacy.accounting"
            )


def _interval(mechanism: Mechanism) -> float:
    spread = min(_spreads(mechanism), default=1.0)
    return min(max(spread / _INTERVALS_PER_SPREAD, _FINEST_INTERVAL), _COARSEST_INTERVAL)


def _spreads(mechanism: Mechanism) -> Iterator[float]:
    match mechanism:
        case Gaussian(noise_multiplier):
            yield 1 / noise_multiplier
        case PoissonSubsampledGaussian(noise_multiplier, sampling_rate):
            yield sampling_rate / noise_multiplier
        case Repeated(part, _):
            yield from _spreads(part)
        case _:  # Composed: _event_of has refused all others
            for part in mechanism.parts:
                yield from _spreads(part)
