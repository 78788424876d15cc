"""What a party accepts of what the coordinator shows it: nothing that is not signed or sealed.

    key_shares = check_cohort(view, round_number=7, own_key=key, viewer=viewer)

A share that does not open, or is not what its dealer committed to, is left out and the round goes
on: leaving it out reveals less, and enough others may have theirs. All else refuses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from privacy.errors import CertificateRefused, CohortRefused, ShareRefused, SignatureRefused
from privacy.secagg.context import (
    echo_statement,
    enrolment_statement,
    upload_digest,
    upload_statement,
)
from privacy.secagg.dealing import Dealer
from privacy.secagg.encoding import DIGEST_BYTES
from privacy.secagg.keys import PublicIdentity
from privacy.secagg.messages import Certificate, CohortView, SurvivorView
from privacy.secagg.parameters import SumParameters
from privacy.secagg.sealing import ROUND_KEY, SELF_MASK


@dataclass(frozen=True, slots=True)
class Viewer:
    """What a party knows by itself.

    Attributes:
        index: the party.
        parameters: as it built and approved them.
        roster: the identities it has pinned.
        dealer: opens the shares dealt to it.
        least_parties: the fewest parties of a cohort and of a survivor set it will be summed with.
    """

    index: int
    parameters: SumParameters
    roster: Mapping[int, PublicIdentity]
    dealer: Dealer
    least_parties: int


def check_cohort(
    view: CohortView, *, round_number: int, own_key: bytes, viewer: Viewer
) -> dict[int, bytes]:
    """Returns the shares of the others' round keys, only if the party can mask for the cohort.

    Args:
        view: the cohort as shown.
        round_number: the round the party enrolled in.
        own_key: the public key it enrolled with.
        viewer: the party.

    Raises:
        CohortRefused: the cohort is too small, or lacks or adds a party.
        SignatureRefused: a key is not its owner's.
    """
    cohort = set(view.public_keys)
    _check_whole(view, cohort, round_number=round_number, receiver=viewer.index)
    unknown = cohort - set(viewer.roster)
    if unknown:
        raise CohortRefused(f"cohort: parties {sorted(unknown)} are not in the roster")
    _check_size("cohort", cohort, viewer)
    _check_commitments(view.share_commitments, viewer.roster)
    if view.public_keys[viewer.index] != own_key:
        raise SignatureRefused(
            f"cohort: the key shown for party {viewer.index} is not the one it sent"
        )
    for other in sorted(cohort - {viewer.index}):
        statement = enrolment_statement(
            viewer.parameters.session,
            round_number,
            other,
            view.public_keys[other],
            view.share_commitments[other],
        )
        viewer.roster[other].verify(
            view.signatures[other], statement, what=f"enrolment of party {other}"
        )
    return _receive(view, purpose=ROUND_KEY, round_number=round_number, viewer=viewer)


def check_survivors(
    view: SurvivorView,
    *,
    round_number: int,
    cohort: Collection[int],
    context: bytes,
    viewer: Viewer,
) -> None:
    """Returns only if all survivors uploaded under the party's own context.

    Raises:
        CohortRefused: survivors and dropped parties do not make up the cohort, the survivors are
            too few or leave the party out, or the view is incomplete.
        SignatureRefused: an upload is not its sender's, or was made under another context.
    """
    survivors, dropped = set(view.vector_digests), set(view.dropped)
    both = survivors & dropped
    if both:
        raise CohortRefused(
            f"survivors: parties {sorted(both)} are shown as survivors and as dropped; "
            f"shares of both kinds of one party are never revealed"
        )
    if survivors | dropped != set(cohort):
        raise CohortRefused(
            f"survivors: {sorted(survivors)} and dropped {sorted(dropped)} are not the cohort "
            f"{sorted(cohort)} that party {viewer.index} masked for"
        )
    _check_whole(view, survivors, round_number=round_number, receiver=viewer.index)
    _check_size("survivors", survivors, viewer)
    _check_commitments(view.share_commitments, cohort)
    if set(view.commitments) != survivors:
        raise CohortRefused(f"the view of round {round_number} lacks a seed commitment")
    for other in sorted(survivors):
        content = upload_digest(
            view.vector_digests[other], view.commitments[other], view.share_commitments[other]
        )
        statement = upload_statement(context, other, content)
        viewer.roster[other].verify(
            view.signatures[other], statement, what=f"upload of party {other}"
        )


def open_seed_shares(view: SurvivorView, *, round_number: int, viewer: Viewer) -> dict[int, bytes]:
    """Returns the usable shares of the other survivors' seeds, of a view that was checked."""
    return _receive(view, purpose=SELF_MASK, round_number=round_number, viewer=viewer)


def check_certificate(
    certificate: Certificate | None,
    *,
    round_number: int,
    survivors: Collection[int],
    context: bytes,
    viewer: Viewer,
) -> None:
    """Returns only if a quorum of the survivors has echoed this very set under this context.

    Raises:
        CertificateRefused: there is no certificate, or it is of another round or set, or of too
            few survivors.
        SignatureRefused: an echo is not its sender's, or is of another set or context.
    """
    quorum = viewer.parameters.quorum
    if certificate is None:
        raise CertificateRefused(
            f"round {round_number} lost parties: a certificate of {quorum} echoes is needed "
            f"before shares of their keys are revealed"
        )
    if certificate.round_number != round_number:
        raise CertificateRefused(
            f"the certificate is of round {certificate.round_number}, not of round {round_number}"
        )
    if set(certificate.survivors) != set(survivors):
        raise CertificateRefused(
            f"the certificate is of survivors {sorted(certificate.survivors)}, the view shows "
            f"{sorted(survivors)}"
        )
    senders = set(certificate.signatures)
    if senders - set(survivors):
        raise CertificateRefused(
            f"the certificate holds echoes of {sorted(senders - set(survivors))}, which are not "
            f"among the survivors {sorted(survivors)}"
        )
    if len(senders) < quorum:
        raise CertificateRefused(
            f"the certificate holds {len(senders)} echoes, below the quorum {quorum}"
        )
    for sender in sorted(senders):
        viewer.roster[sender].verify(
            certificate.signatures[sender],
            echo_statement(context, sender, survivors),
            what=f"echo of party {sender}",
        )


def _receive(
    view: CohortView | SurvivorView, *, purpose: bytes, round_number: int, viewer: Viewer
) -> dict[int, bytes]:
    """Opens the shares dealt to a party; without those that are unusable."""
    shares: dict[int, bytes] = {}
    for sender, sealed in view.sealed_shares.items():
        try:
            shares[sender] = viewer.dealer.receive(
                sealed,
                view.share_commitments[sender][viewer.index],
                purpose=purpose,
                round_number=round_number,
                sender=sender,
            )
        except ShareRefused:
            continue  # its absence names the dealer
    return shares


def _check_size(what: str, parties: Collection[int], viewer: Viewer) -> None:
    """Raises when the parties are too few to hide one among them."""
    if len(parties) < viewer.parameters.quorum:
        raise CohortRefused(
            f"{what}: {len(parties)} parties are below the quorum {viewer.parameters.quorum}"
        )
    if len(parties) < viewer.least_parties:
        raise CohortRefused(
            f"{what}: {len(parties)} parties are below the {viewer.least_parties} that party "
            f"{viewer.index} asks for"
        )


def _check_commitments(
    commitments: Mapping[int, Mapping[int, bytes]], receivers: Collection[int]
) -> None:
    """Raises unless each dealer has committed to a share of each receiver."""
    for dealer, values in commitments.items():
        if set(values) != set(receivers) or {*map(len, values.values())} != {DIGEST_BYTES}:
            raise CohortRefused(
                f"share commitments of party {dealer}: {DIGEST_BYTES} bytes are needed for each of "
                f"{sorted(receivers)}"
            )


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
    if (
        set(view.signatures) != parties
        or set(view.share_commitments) != parties
        or set(view.sealed_shares) != parties - {receiver}
    ):
        raise CohortRefused(
            f"the view of round {round_number} does not hold one signature and one set of share "
            f"commitments of each of {sorted(parties)} and one share of each but party {receiver}"
        )
