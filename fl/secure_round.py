"""How a round uses the secure sum: the parameters that both sides derive from the invitation.

Coordinator and hospitals each call `sum_parameters` on the same invitation, so neither can relax
what the other checks.
"""

from __future__ import annotations

from typing import Final

from fl.evaluation.counts import HISTOGRAM, counters
from fl.integer_noise import update_noise_std
from fl.invitation import RoundInvitation
from fl.spec import most_colluding
from privacy.errors import ParametersRefused
from privacy.secagg.keys import PublicIdentity
from privacy.secagg.parameters import SumParameters

UPDATE_RANGE: Final = 4.0
"""Largest change of one weight in a round that the quantiser holds; larger ones are clipped."""

UPDATE_BITS: Final = 20
"""Bits of a quantised change, sign included: a step of 4 / 2^19, about 8e-6."""

UPDATE_STEP: Final = UPDATE_RANGE / (2 ** (UPDATE_BITS - 1) - 1)

PUBLIC_WEIGHT: Final = 1
"""Every hospital's weight in the mean. A constant: the number of its patients never leaves it."""

COUNTERS: Final = HISTOGRAM
"""Counts that ride along where none are of subgroups: both classes' held-out rows by score."""

LEAST_COUNT: Final = -(2**31)
"""Noised counts may fall below zero; as far below as the noise of any plan may take them."""


def sum_parameters(invitation: RoundInvitation, *, parameters: int) -> SumParameters:
    """Returns the secure sum's parameters for a round.

    The quorum is two thirds of the invited hospitals and one more, and a third of them may collude
    with the coordinator, which keeps 2q > n + c. Where the plan's noise is shared, it is also as
    large as leaves enough honest hospitals in every sum.

    Args:
        invitation: the round's invitation.
        parameters: number of weights of the model; an evaluation round sums counts alone.

    Raises:
        ParametersRefused: the noise is to be shared among more than can be honest, or does not fit.
        PlanError: the plan's noise cannot be shared.
    """
    plan, hospitals = invitation.plan, len(invitation.roster)
    colluding = most_colluding(hospitals)
    if plan.noise_shares > hospitals - colluding:
        raise ParametersRefused(
            f"noise_shares {plan.noise_shares}: of {hospitals} invited hospitals {colluding} may "
            f"collude, which leaves {hospitals - colluding}; take fewer shares"
        )
    dimension = parameters if invitation.kind == "training" else 0
    return SumParameters(
        session=invitation.training_id.bytes,
        roster=tuple(entry.index for entry in invitation.roster),
        quorum=quorum_of(hospitals, noise_shares=plan.noise_shares),
        colluding=colluding,
        dimension=dimension,
        counters=counters(invitation.model.contract, invitation.kind, evaluate=invitation.evaluate),
        bits=UPDATE_BITS,
        clip=UPDATE_RANGE,
        max_weight=PUBLIC_WEIGHT,
        noise_std=update_noise_std(
            plan,
            learning_rate=invitation.learning_rate,
            dimension=dimension,
            step=UPDATE_STEP,
        ),
        least_count=LEAST_COUNT,
    )


def quorum_of(hospitals: int, *, noise_shares: int) -> int:
    """Returns the fewest hospitals whose sum is opened, of those that were invited."""
    honest = noise_shares if noise_shares > 1 else 0
    return max(3, 2 * hospitals // 3 + 1, honest + most_colluding(hospitals))


def identities(invitation: RoundInvitation) -> dict[int, PublicIdentity]:
    """Returns the invited hospitals' public identities by their index in the secure sum."""
    return {
        entry.index: PublicIdentity(
            signing_key=bytes.fromhex(entry.signing_key),
            sealing_key=bytes.fromhex(entry.sealing_key),
        )
        for entry in invitation.roster
    }
