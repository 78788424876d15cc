"""What a mechanism costs: epsilon at a delta, under adding or removing one record.

Four accountants with one way in, each for what it prices best:

- ``GaussianAccountant``: exact, for Gaussian noise without sampling (``privacy.gaussian_dp``).
- ``ZcdpAccountant``: concentrated privacy, for integer noise (``privacy.zcdp``).
- ``PldAccountant``: privacy loss distributions, discretised pessimistically (Koskela et al. 2020;
  Doroshenko et al. 2022), over dp-accounting; tight, for a declared plan with sampling.
- ``RdpAccountant``: Rényi differential privacy (Mironov 2017; Mironov et al. 2019), over
  dp-accounting; looser, for everything.

    tightest_accountant(mechanism).epsilon(mechanism, delta=1e-5)   # its parameters were declared
    adaptive_epsilon(mechanism, delta=1e-5)    # its parameters may depend on what came out before
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, assert_never

import dp_accounting
from dp_accounting import pld, rdp

from privacy import gaussian_dp, zcdp
from privacy.errors import PlanError, UnknownMechanism
from privacy.mechanisms import (
    DiscreteGaussian,
    Gaussian,
    Mechanism,
    PoissonSubsampledGaussian,
    Release,
    tally,
)

ADD_OR_REMOVE: Final = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE

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


class GaussianAccountant:
    """Prices Gaussian noise without sampling, exactly.

    >>> round(GaussianAccountant().epsilon(Gaussian(noise_multiplier=1.0), delta=1e-5), 4)
    4.3772
    """

    name = "gaussian"

    def epsilon(self, mechanism: Mechanism, *, delta: float) -> float:
        """Returns epsilon; see ``Accountant.epsilon``."""
        _require_delta(delta)
        releases = _priceable(self, mechanism, Gaussian)
        return gaussian_dp.epsilon_of(math.sqrt(_inverse_variance(releases)), delta=delta)


class ZcdpAccountant:
    """Prices Gaussian and integer noise without sampling, by concentrated privacy.

    >>> round(ZcdpAccountant().epsilon(DiscreteGaussian(noise_multiplier=1.0), delta=1e-5), 4)
    4.7284
    """

    name = "zcdp"

    def epsilon(self, mechanism: Mechanism, *, delta: float) -> float:
        """Returns an upper bound of epsilon; see ``Accountant.epsilon``."""
        _require_delta(delta)
        releases = _priceable(self, mechanism, Gaussian, DiscreteGaussian)
        return zcdp.epsilon_of(_inverse_variance(releases) / 2, delta=delta)


class PldAccountant:
    """Prices by privacy loss distributions.

    >>> round(PldAccountant().epsilon(Gaussian(noise_multiplier=1.0), delta=1e-5), 2)
    4.38
    """

    name = "pld"

    def epsilon(self, mechanism: Mechanism, *, delta: float) -> float:
        """Returns an upper bound of epsilon; see ``Accountant.epsilon``."""
        _require_delta(delta)
        # The loss of integer noise depends on the direction of a change, so no one distribution
        # bounds it in many dimensions.
        releases = _priceable(self, mechanism, Gaussian, PoissonSubsampledGaussian)
        accountant = pld.PLDAccountant(ADD_OR_REMOVE, pld_interval(releases))
        return float(accountant.compose(_event_of(releases)).get_epsilon(delta))


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
        event = _event_of(tally(mechanism))
        accountant = rdp.RdpAccountant(self._orders, neighboring_relation=ADD_OR_REMOVE)
        return float(accountant.compose(event).get_epsilon(delta))


def tightest_accountant(mechanism: Mechanism) -> Accountant:
    """Returns the accountant with the least bound for a mechanism whose parameters were declared.

    Raises:
        UnknownMechanism: the mechanism, or any part of it, is none.
    """
    kinds = _kinds(mechanism)
    if kinds <= {Gaussian, PoissonSubsampledGaussian} and PoissonSubsampledGaussian in kinds:
        return PldAccountant()
    return adaptive_accountant(mechanism)


def adaptive_accountant(mechanism: Mechanism) -> Accountant:
    """Returns an accountant whose price is valid as a filter.

    Each part, and whether there is another, may then have been chosen knowing the results so far,
    as long as the price of all of them stays under a budget that was fixed before:

    - only Gaussians: the filter of Gaussian differential privacy, exact (Smith and Thakurta 2022,
      "Fully adaptive composition for Gaussian differential privacy"; Koskela et al. 2023);
    - integer noise, but no sampling: rho of concentrated privacy, which bounds the Rényi divergence
      of every order at once (Feldman and Zrnic 2021, "Individual privacy accounting via a Rényi
      filter");
    - with sampling: the Rényi filter. It is proved for an order that is fixed before; the best
      order is taken of what was released.

    Raises:
        UnknownMechanism: the mechanism, or any part of it, is none.
    """
    kinds = _kinds(mechanism)
    if kinds <= {Gaussian}:
        return GaussianAccountant()
    if kinds <= {Gaussian, DiscreteGaussian}:
        return ZcdpAccountant()
    return RdpAccountant()


def adaptive_epsilon(mechanism: Mechanism, *, delta: float) -> float:
    """Returns an upper bound of epsilon that holds when each part was chosen knowing the results.

    For what it holds: see ``adaptive_accountant``.

    Raises:
        UnknownMechanism, PlanError: see ``Accountant.epsilon``.
    """
    return adaptive_accountant(mechanism).epsilon(mechanism, delta=delta)


def pld_interval(releases: Iterable[Release]) -> float:
    """Returns how finely to discretise the privacy loss, in units of epsilon."""
    spread = min((_spread(release) for release in releases), default=1.0)
    return min(max(spread / _INTERVALS_PER_SPREAD, _FINEST_INTERVAL), _COARSEST_INTERVAL)


def _spread(release: Release) -> float:
    match release:
        case PoissonSubsampledGaussian(noise_multiplier, sampling_rate):
            return sampling_rate / noise_multiplier
        case Gaussian(noise_multiplier):
            return 1 / noise_multiplier
        case _:
            raise UnknownMechanism(f"{type(release).__name__}: PLD does not know this release")


def _kinds(mechanism: Mechanism) -> set[type[Release]]:
    return {type(release) for release in tally(mechanism)}


def _priceable(
    accountant: Accountant, mechanism: Mechanism, *kinds: type[Release]
) -> Counter[Release]:
    """The whole of it is known before any of it is priced."""
    releases = tally(mechanism)
    for release in releases:
        if not isinstance(release, kinds):
            raise UnknownMechanism(
                f"{type(release).__name__}: the accountant {accountant.name} does not know this "
                "mechanism; take another, such as the tightest_accountant of what was released"
            )
    return releases


def _inverse_variance(releases: Counter[Release]) -> float:
    return math.fsum(count / release.noise_multiplier**2 for release, count in releases.items())


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise PlanError(f"delta {delta}: must lie in (0, 1)")


def _event_of(releases: Counter[Release]) -> dp_accounting.DpEvent:
    return dp_accounting.ComposedDpEvent(
        [
            dp_accounting.SelfComposedDpEvent(_event_of_one(release), count)
            for release, count in releases.items()
        ]
    )


def _event_of_one(release: Release) -> dp_accounting.DpEvent:
    match release:
        case Gaussian(noise_multiplier):
            return dp_accounting.GaussianDpEvent(noise_multiplier)
        case DiscreteGaussian(noise_multiplier):
            return dp_accounting.ZCDpEvent(1 / (2 * noise_multiplier**2))
        case PoissonSubsampledGaussian(noise_multiplier, sampling_rate):
            gaussian = dp_accounting.GaussianDpEvent(noise_multiplier)
            return dp_accounting.PoissonSampledDpEvent(sampling_rate, gaussian)
        case _:  # pragma: no cover - the tally has refused it
            assert_never(release)
