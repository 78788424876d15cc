"""What the coordinator lets in: each message well-formed and signed by the party it names.

    verify_upload(upload, round_number=7, cohort=cohort, context=context, parameters=parameters,
                  roster=roster)

A message of wrong form is refused before its signature is looked at; every refusal names the party.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from privacy.errors import CohortRefused, InputRefused
from privacy.secagg.context import (
    enrolment_statement,
    reveal_statement,
    upload_digest,
    upload_statement,
)
from privacy.secagg.encoding import DIGEST_BYTES, KEY_BYTES
from privacy.secagg.keys import PublicIdentity
from privacy.secagg.masking import MaskedVector
from privacy.secagg.messages import Enrolment, Reveal, Upload
from privacy.secagg.parameters import SumParameters
from privacy.secagg.sealing import SEALED_BYTES
from privacy.secagg.shamir import SHARE_BYTES


def verify_enrolment(
    enrolment: Enrolment,
    *,
    round_number: int,
    parameters: SumParameters,
    roster: Mapping[int, PublicIdentity],
) -> None:
    """Raises CohortRefused or SignatureRefused unless the enrolment can enter a cohort."""
    what = _checked_sender(enrolment, round_number, parameters.roster)
    _check_size(f"{what}: public_key", enrolment.public_key, KEY_BYTES)
    others = set(parameters.roster) - {enrolment.index}
    _check_shares(what, enrolment.sealed_shares, others, SEALED_BYTES)
    statement = enrolment_statement(
        parameters.session, round_number, enrolment.index, enrolment.public_key
    )
    roster[enrolment.index].verify(enrolment.signature, statement, what=what)


def verify_upload(
    upload: Upload,
    *,
    round_number: int,
    cohort: Collection[int],
    context: bytes,
    parameters: SumParameters,
    roster: Mapping[int, PublicIdentity],
) -> tuple[MaskedVector, bytes]:
    """Returns the masked vector, contiguous, and the digest that the upload's signature covers.

    Raises:
        CohortRefused: sender, round or receivers of the shares are wrong.
        InputRefused: the vector has another size or type than agreed.
        SignatureRefused: it is not signed by its sender under this context.
    """
    what = _checked_sender(upload, round_number, cohort)
    agreed = (parameters.dtype, (parameters.length,))
    if (upload.masked.dtype, upload.masked.shape) != agreed:
        raise InputRefused(
            f"{what}: {upload.masked.dtype} {upload.masked.shape} does not fit the agreed "
            f"{parameters.dtype} ({parameters.length},)"
        )
    _check_size(f"{what}: commitment", upload.commitment, DIGEST_BYTES)
    _check_shares(what, upload.sealed_shares, set(cohort) - {upload.index}, SEALED_BYTES)
    masked = np.ascontiguousarray(upload.masked)
    content = upload_digest(masked, upload.commitment)
    statement = upload_statement(context, upload.index, content)
    roster[upload.index].verify(upload.signature, statement, what=what)
    return masked, content


def verify_reveal(
    reveal: Reveal,
    *,
    round_number: int,
    cohort: Collection[int],
    context: bytes,
    roster: Mapping[int, PublicIdentity],
) -> None:
    """Raises CohortRefused or SignatureRefused unless the reveal can be used."""
    what = _checked_sender(reveal, round_number, cohort)
    _check_shares(what, reveal.shares, set(cohort), SHARE_BYTES)
    statement = reveal_statement(context, reveal.index, reveal.shares)
    roster[reveal.index].verify(reveal.signature, statement, what=what)


def _checked_sender(
    message: Enrolment | Upload | Reveal, round_number: int, parties: Collection[int]
) -> str:
    """Returns how to name the message."""
    what = f"{type(message).__name__.lower()} of party {message.index}"
    if message.index not in parties:
        raise CohortRefused(f"{what}: the party is not among {sorted(parties)}")
    if message.round_number != round_number:
        raise CohortRefused(
            f"{what}: it is for round {message.round_number}, not for round {round_number}"
        )
    return what


def _check_shares(
    what: str, shares: Mapping[int, bytes], parties: Collection[int], size: int
) -> None:
    """Raises unless there is one share of the right size for each of the parties."""
    if set(shares) != set(parties):
        raise CohortRefused(
            f"{what}: shares are given for {sorted(shares)}, needed for {sorted(parties)}"
        )
    for party, share in shares.items():
        _check_size(f"{what}: share of party {party}", share, size)


def _check_size(what: str, value: bytes, size: int) -> None:
    """Raises unless the value has the size."""
    if len(value) != size:
        raise CohortRefused(f"{what}: {size} bytes are needed, not {len(value)}")
