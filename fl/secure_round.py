"""How a round uses the secure sum: the parameters that both sides derive from the invitation.

Coordinator and hospitals each call `sum_parameters` on the same invitation, so neither can relax
what the other checks.
"""

from __future__ import annotations

from typing import Final

from fl.evaluation import BINS
from fl.invitation import RoundInvitation
from privacy.secagg.keys import PublicIdentity
from privacy.secagg.parameters import SumParameters

UPDATE_RANGE: Final = 4.0
"""Largest change of one weight in a round that the quantiser holds; larger ones are clipped."""

UPDATE_BITS: Final = 20
"""Bits of a quantised change, sign included: a step of 4 / 2^19, about 8e-6."""

PUBLIC_WEIGHT: Final = 1
"""Every hospital's weight in the mean. A constant: the number of its patients never leaves it."""

COUNTERS: Final = 2 * BINS
"""Counts that ride along: the score histograms of both classes on the held-out part."""


def sum_parameters(invitation: RoundInvitation, *, parameters: int) -> SumParameters:
    """Returns the secure sum's parameters for a round.

    The quorum is two thirds of the invited hospitals and one more, and a third of them may collude
    with the coordinator, which keeps 2q > n + c.

    Args:
        invitation: the round's invitation.
        parameters: number of weights of the model; an evaluation round sums counts alone.
    """
    hospitals = len(invitation.roster)
    return SumParameters(
        session=invitation.training_id.bytes,
        roster=tuple(entry.index for entry in invitation.roster),
        quorum=quorum_of(hospitals),
        colluding=hospitals // 3,
        dimension=parameters if invitation.kind == "training" else 0,
        counters=COUNTERS,
        bits=UPDATE_BITS,
        clip=UPDATE_RANGE,
        max_weight=PUBLIC_WEIGHT,
    )


def quorum_of(hospitals: int) -> int:
    """Returns the fewest hospitals whose sum is opened, of those that were invited."""
    return max(3, 2 * hospitals // 3 + 1)


def identities(invitation: RoundInvitation) -> dict[int, PublicIdentity]:
    """Returns the invited hospitals' public identities by their index in the secure sum."""
    return {
        entry.index: PublicIdentity(
            signing_key=bytes.fromhex(entry.signing_key),
            sealing_key=bytes.fromhex(entry.sealing_key),
        )
        for entry in invitation.roster
    }
