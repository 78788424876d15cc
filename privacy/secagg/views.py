"""What a party believes of what the coordinator shows it: nothing that is not signed or sealed.

check_survivors(view, round_number=7, receiver=1, cohort=cohort, context=context, roster=roster)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from privacy.errors import CohortRefused, SignatureRefused
from privacy.secagg.context import enrolment_statement, upload_statement
from privacy.secagg.keys import PublicIdentity
from privacy.secagg.messages import CohortView, SurvivorView
from privacy.secagg.parameters import SumParameters
from privacy.secagg.sealing import ROUND_KEY, Sealer


def check_cohort(
    view: CohortView,
    *,
    round_number: int,
    receiver: int,
    own_key: bytes,
    parameters: SumParameters,
    roster: Mapping[int, PublicIdentity],
    sealer: Sealer,
) -> None:
    """Returns only if the receiver can mask for the cohort.

    Args:
        view: the cohort as shown.
        round_number: the round the receiver enrolled in.
        receiver: the index of the party that got the view.
        own_key: the public key it enrolled with.
        parameters: the receiver's own.
        roster: the pinned identities.
        sealer: opens the shares sealed for the receiver.

    Raises:
        CohortRefused: the cohort is too small, or lacks or adds a party.
        SignatureRefused: a key is not its owner's.
        ShareRefused: a sealed share does not open.
    """
    cohort = set(view.public_keys)
    _check_whole(view, cohort, round_number=round_number, receiver=receiver)
    unknown = cohort - set(roster)
    if unknown:
        raise CohortRefused(f"cohort: parties {sorted(unknown)} are not in the roster")
    if len(cohort) < parameters.quorum:
        raise CohortRefused(
            f"cohort: {len(cohort)} parties are below the quorum {parameters.quorum}"
        )
    if view.public_keys[receiver] != own_key:
        raise SignatureRefused(f"cohort: the key shown for party {receiver} is not the one it sent")
    for other in sorted(cohort - {receiver}):
        statement = enrolment_statement(
            parameters.session, round_number, other, view.public_keys[other]
        )
        roster[other].verify(view.signatures[other], statement, what=f"enrolment of party {other}")
        # Not needed while every party finishes, but a share that does not open must stop the
        # round before its sender is relied on.
        sealed = view.sealed_shares[other]
        sealer.open(sealed, purpose=ROUND_KEY, round_number=round_number, sender=other)


def check_survivors(
    view: SurvivorView,
    *,
    round_number: int,
    receiver: int,
    cohort: Collection[int],
    context: bytes,
    roster: Mapping[int, PublicIdentity],
) -> None:
    """Returns only if all of the cohort uploaded under the receiver's own context.

    Raises:
        CohortRefused: the survivors are not the cohort, or the view is incomplete.
        SignatureRefused: an upload is not its sender's, or was made under another context.
    """
    survivors = set(view.upload_digests)
    if survivors != set(cohort):
        raise CohortRefused(
            f"survivors: {sorted(survivors)} are not the cohort {sorted(cohort)}; "
            f"a round that lost a party cannot be finished"
        )
    _check_whole(view, survivors, round_number=round_number, receiver=receiver)
    for other in sorted(survivors):
        statement = upload_statement(context, other, view.upload_digests[other])
        roster[other].verify(view.signatures[other], statement, what=f"upload of party {other}")


def _check_whole(
    view: CohortView | SurvivorView, parties: set[int], *, round_number: int, receiver: int
) -> None:
    """Raises unless the view is of the round, complete, and includes its receiver."""
    if view.round_number != round_number:
        raise CohortRefused(
            f"the view is of round {view.round_number}, not of round {round_number}"
        )
    if receiver not in parties:
        raise CohortRefused(f"the view of round {round_number} leaves out party {receiver}")
    if set(view.signatures) != parties or set(view.sealed_shares) != parties - {receiver}:
        raise CohortRefused(
            f"the view of round {round_number} does not hold one signature of each of "
            f"{sorted(parties)} and one share of each but party {receiver}"
        )
