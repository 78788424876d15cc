"""What the coordinator lets in: each message well-formed and signed by the party it names.

    verify_upload(upload, round_number=7, cohort=cohort, context=context, parameters=parameters,
                  roster=roster)

A message of wrong form is refused before its signature is looked at; every refusal names the party.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.errors import CohortRefused, InputRefused
from privacy.secagg.context import (
    echo_statement,
    enrolment_statement,
    reveal_statement,
    upload_digest,
    upload_statement,
    vector_digest,
)
from privacy.secagg.encoding import DIGEST_BYTES, KEY_BYTES
from privacy.secagg.keys import PublicIdentity, agree
from privacy.secagg.masking import MaskedVector
from privacy.secagg.messages import Echo, Enrolment, Reveal, Upload
from privacy.secagg.parameters import SumParameters
from privacy.secagg.sealing import SEALED_BYTES
from privacy.secagg.shamir import SHARE_BYTES

Roster: TypeAlias = Mapping[int, PublicIdentity]

# Agrees on zero with a key of low order, as any other does (RFC 7748, section 6.1); not a secret.
_ANY_KEY = X25519PrivateKey.from_private_bytes(bytes(KEY_BYTES))


def verify_enrolment(
    enrolment: Enrolment, *, round_number: int, parameters: SumParameters, roster: Roster
) -> None:
    """Raises unless the enrolment can enter a cohort.

    Raises:
        CohortRefused: sender, round or receivers of the shares are wrong.
        SignatureRefused: it is not signed by its sender.
        ProtocolError: nobody can agree on a secret with its key.
    """
    what = _checked_sender(enrolment, round_number, parameters.roster)
    _check_size(f"{what}: public_key", enrolment.public_key, KEY_BYTES)
    others = set(parameters.roster) - {enrolment.index}
    _check_shares(what, enrolment.sealed_shares, others, SEALED_BYTES)
    _check_shares(f"{what}: commitments", enrolment.share_commitments, parameters.roster)
    statement = enrolment_statement(
        parameters.session,
        round_number,
        enrolment.index,
        enrolment.public_key,
        enrolment.share_commitments,
    )
    roster[enrolment.index].verify(enrolment.signature, statement, what=what)
    # Every other party would refuse a cohort with a key of low order: name its sender here.
    agree(_ANY_KEY, enrolment.public_key, party=enrolment.index)


def verify_upload(
    upload: Upload,
    *,
    round_number: int,
    cohort: Collection[int],
    context: bytes,
    parameters: SumParameters,
    roster: Roster,
) -> tuple[MaskedVector, bytes]:
    """Returns the masked vector, contiguous, and its digest.

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
    others = set(cohort) - {upload.index}
    _check_shares(what, upload.sealed_shares, others, SEALED_BYTES)
    _check_shares(f"{what}: commitments", upload.share_commitments, cohort)
    if not set(upload.bad_dealers) <= others:
        raise CohortRefused(
            f"{what}: bad_dealers: {sorted(upload.bad_dealers)} are not all among {sorted(others)}"
        )
    masked = np.ascontiguousarray(upload.masked)
    vector = vector_digest(masked, upload.bad_dealers)
    content = upload_digest(vector, upload.commitment, upload.share_commitments)
    statement = upload_statement(context, upload.index, content)
    roster[upload.index].verify(upload.signature, statement, what=what)
    return masked, vector


def verify_echo(
    echo: Echo,
    *,
    round_number: int,
    survivors: Collection[int],
    context: bytes,
    roster: Roster,
) -> None:
    """Raises CohortRefused or SignatureRefused unless the echo vouches for these survivors."""
    what = _checked_sender(echo, round_number, survivors)
    if set(echo.survivors) != set(survivors):
        raise CohortRefused(
            f"{what}: it is for the survivors {sorted(echo.survivors)}, not for {sorted(survivors)}"
        )
    statement = echo_statement(context, echo.index, survivors)
    roster[echo.index].verify(echo.signature, statement, what=what)


def verify_reveal(
    reveal: Reveal,
    *,
    round_number: int,
    survivors: Collection[int],
    dropped: Collection[int],
    context: bytes,
    roster: Roster,
) -> None:
    """Raises CohortRefused or SignatureRefused unless the reveal can be used."""
    what = _checked_sender(reveal, round_number, survivors)
    for shares, dealers in ((reveal.shares, survivors), (reveal.key_shares, dropped)):
        if not set(shares) <= set(dealers):
            raise CohortRefused(
                f"{what}: shares are given for {sorted(shares)}, allowed for {sorted(dealers)}"
            )
        for dealer, share in shares.items():
            _check_size(f"{what}: share of party {dealer}", share, SHARE_BYTES)
    statement = reveal_statement(
        context, reveal.index, survivors, shares=reveal.shares, key_shares=reveal.key_shares
    )
    roster[reveal.index].verify(reveal.signature, statement, what=what)


def _checked_sender(
    message: Enrolment | Upload | Echo | Reveal, round_number: int, parties: Collection[int]
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
    what: str, shares: Mapping[int, bytes], parties: Collection[int], size: int = DIGEST_BYTES
) -> None:
    """Raises unless there is one value of the right size for each of the parties."""
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
