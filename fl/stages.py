"""The stages of a training: first the features' centre, then their spread, then the model itself.

    stage_of(spec.architecture, plan, done=3).kind  # "centre"

A round of the first two stages releases a clipped, noised sum just as a step of training does, and
costs the same. A table whose hospitals' rows are standardised together, by figures that are
private, trains better than one that is scaled by public ranges alone, which may be wide and far off
(``docs/recipes.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from fl.architecture_spec import Architecture, standardises
from privacy.plan import PrivacyPlan

StageKind = Literal["train", "centre", "spread"]
KINDS: Final[tuple[StageKind, ...]] = ("train", "centre", "spread")
"""Their numbers on the wire are their places here."""

STAGE: Final = "stage"
RADIUS: Final = "radius"
LEARNING_RATE: Final = "learning-rate"
PROXIMAL_MU: Final = "proximal-mu"

COUNT_SHARE: Final = 0.25
"""What a record contributes to the count of all, in units of the radius."""

# By how many rounds a training has: rounds for the centre, rounds for the spread.
_SHARES: Final = ((0, 0, 0), (6, 1, 0), (8, 2, 1), (12, 3, 1), (16, 4, 2), (20, 4, 3), (26, 6, 3))

# The centre is sought in shrinking balls, in units of the root of the number of features: the first
# holds all that the public ranges allow, the later ones what lies around the centre found so far.
_CENTRE_RADII: Final = (1.0, 0.5, 0.35)
_SPREAD_RADIUS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Stage:
    """What a round does.

    Attributes:
        kind: ``centre`` and ``spread`` measure the features, ``train`` trains the model.
        place: rounds of this kind before it.
        rounds: rounds of this kind in all.
        radius: for the first two, L2 bound of what a record contributes, in units of the root of
            the number of features.
    """

    kind: StageKind
    place: int
    rounds: int
    radius: float = 0.0


def stage_of(architecture: Architecture, plan: PrivacyPlan, *, done: int) -> Stage:
    """Returns the stage of the round that follows so many that have changed the weights."""
    centre, spread = _statistics(architecture, plan.rounds) if plan.sampling_rate == 1 else (0, 0)
    if done < centre:
        return Stage("centre", done, centre, _CENTRE_RADII[min(done, len(_CENTRE_RADII) - 1)])
    if done < centre + spread:
        return Stage("spread", done - centre, spread, _SPREAD_RADIUS)
    return Stage("train", done - centre - spread, plan.rounds - centre - spread)


def statistic_rounds(architecture: Architecture, rounds: int) -> int:
    """Returns how many of a training's rounds measure features rather than train."""
    return sum(_statistics(architecture, rounds))


def _statistics(architecture: Architecture, rounds: int) -> tuple[int, int]:
    if not standardises(architecture):
        return (0, 0)
    for (_, centre, spread), (more, _, _) in pairwise((*_SHARES, (1 << 30, 0, 0))):
        if rounds < more:
            return (centre, spread)
    raise AssertionError(f"rounds {rounds}")  # pragma: no cover - the last bound is above any plan
