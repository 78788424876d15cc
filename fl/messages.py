"""The messages of a secure sum as bytes.

    data = encode_upload(upload)
    upload = decode_upload(data, parameters=parameters)

Keys, signatures and shares travel as rows of bytes beside the ascending indices of their parties,
the share commitments of several dealers as one matrix of rows: each dealer's by receiver.
A decoder refuses, with WireError, what is larger than 256 parties can need, and any value of wrong
size; whether the values are right is for ``privacy.secagg`` to say.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fl.errors import WireError
from fl.rows import (
    indices,
    matrix,
    read_array,
    read_indices,
    read_matrix,
    read_number,
    read_row,
    read_rows,
    row,
    rows,
)
from fl.wire import Frame, pack, unpack
from privacy.secagg.encoding import DIGEST_BYTES, KEY_BYTES
from privacy.secagg.keys import SIGNATURE_BYTES
from privacy.secagg.messages import (
    Certificate,
    CohortView,
    Echo,
    Enrolment,
    Reveal,
    SurvivorView,
    Upload,
)
from privacy.secagg.parameters import MOST_PARTIES, SumParameters
from privacy.secagg.sealing import SEALED_BYTES
from privacy.secagg.shamir import SHARE_BYTES

# The largest message of 256 parties from a hospital, without its vector, is below 28 KiB; the
# largest view, of which 256 x 256 share commitments are 2 MiB, is below 2.1 MiB.
MAX_MESSAGE_BYTES = 64 * 1024
MAX_VIEW_BYTES = MAX_MESSAGE_BYTES + MOST_PARTIES * MOST_PARTIES * DIGEST_BYTES
_LAST_ROUND = 2**32 - 1
_ROWS = {
    "enrolment": ("sealed_shares", "share_commitments"),
    "cohort": ("public_keys", "signatures", "share_commitments", "sealed_shares"),
    "upload": ("sealed_shares", "share_commitments"),
    "survivors": (
        *("vector_digests", "commitments", "share_commitments", "signatures", "sealed_shares"),
    ),
    "echo": (),
    "certificate": ("signatures",),
    "reveal": ("shares", "key_shares"),
}
_SINGLE = {
    "enrolment": ("public_key", "signature"),
    "cohort": ("share_commitments.receivers",),
    "upload": ("bad_dealers", "commitment", "masked", "signature"),
    "survivors": ("dropped", "share_commitments.receivers"),
    "echo": ("signature", "survivors"),
    "certificate": ("survivors",),
    "reveal": ("signature",),
}


def encode_enrolment(enrolment: Enrolment) -> bytes:
    """Returns an enrolment as bytes."""
    arrays = (
        rows("sealed_shares", enrolment.sealed_shares, SEALED_BYTES)
        | rows("share_commitments", enrolment.share_commitments, DIGEST_BYTES)
        | {"public_key": row(enrolment.public_key), "signature": row(enrolment.signature)}
    )
    return pack("enrolment", _sender(enrolment), arrays)


def decode_enrolment(data: bytes) -> Enrolment:
    """Reads an enrolment; WireError when it is none."""
    frame = _open(data, "enrolment", MAX_MESSAGE_BYTES)
    return Enrolment(
        index=read_number(frame, "index", MOST_PARTIES),
        round_number=read_number(frame, "round_number", _LAST_ROUND),
        public_key=read_row(frame, "public_key", KEY_BYTES),
        signature=read_row(frame, "signature", SIGNATURE_BYTES),
        sealed_shares=read_rows(frame, "sealed_shares", SEALED_BYTES),
        share_commitments=read_rows(frame, "share_commitments", DIGEST_BYTES),
    )


def encode_cohort(view: CohortView) -> bytes:
    """Returns a cohort view as bytes."""
    arrays = (
        rows("public_keys", view.public_keys, KEY_BYTES)
        | rows("signatures", view.signatures, SIGNATURE_BYTES)
        | matrix("share_commitments", view.share_commitments, DIGEST_BYTES)
        | rows("sealed_shares", view.sealed_shares, SEALED_BYTES)
    )
    return pack("cohort", {"round_number": view.round_number}, arrays)


def decode_cohort(data: bytes) -> CohortView:
    """Reads a cohort view; WireError when it is none."""
    frame = _open(data, "cohort", MAX_VIEW_BYTES)
    return CohortView(
        round_number=read_number(frame, "round_number", _LAST_ROUND),
        public_keys=read_rows(frame, "public_keys", KEY_BYTES),
        signatures=read_rows(frame, "signatures", SIGNATURE_BYTES),
        share_commitments=read_matrix(frame, "share_commitments", DIGEST_BYTES),
        sealed_shares=read_rows(frame, "sealed_shares", SEALED_BYTES),
    )


def encode_upload(upload: Upload) -> bytes:
    """Returns an upload as bytes."""
    arrays = (
        rows("sealed_shares", upload.sealed_shares, SEALED_BYTES)
        | rows("share_commitments", upload.share_commitments, DIGEST_BYTES)
        | {
            "bad_dealers": indices(upload.bad_dealers),
            "commitment": row(upload.commitment),
            "masked": upload.masked,
            "signature": row(upload.signature),
        }
    )
    return pack("upload", _sender(upload), arrays)


def max_upload_bytes(parameters: SumParameters) -> int:
    """Returns the size above which no upload of such a sum can lie."""
    return MAX_MESSAGE_BYTES + parameters.length * parameters.dtype.itemsize


def decode_upload(data: bytes, *, parameters: SumParameters) -> Upload:
    """Reads an upload whose vector has the agreed type and length; WireError when it is none."""
    frame = _open(data, "upload", max_upload_bytes(parameters))
    return Upload(
        index=read_number(frame, "index", MOST_PARTIES),
        round_number=read_number(frame, "round_number", _LAST_ROUND),
        masked=read_array(frame, "masked", parameters.dtype, (parameters.length,)),
        commitment=read_row(frame, "commitment", DIGEST_BYTES),
        signature=read_row(frame, "signature", SIGNATURE_BYTES),
        sealed_shares=read_rows(frame, "sealed_shares", SEALED_BYTES),
        share_commitments=read_rows(frame, "share_commitments", DIGEST_BYTES),
        bad_dealers=read_indices(frame, "bad_dealers"),
    )


def encode_survivors(view: SurvivorView) -> bytes:
    """Returns a survivor view as bytes."""
    arrays = (
        rows("vector_digests", view.vector_digests, DIGEST_BYTES)
        | rows("commitments", view.commitments, DIGEST_BYTES)
        | matrix("share_commitments", view.share_commitments, DIGEST_BYTES)
        | rows("signatures", view.signatures, SIGNATURE_BYTES)
        | rows("sealed_shares", view.sealed_shares, SEALED_BYTES)
        | {"dropped": indices(view.dropped)}
    )
    return pack("survivors", {"round_number": view.round_number}, arrays)


def decode_survivors(data: bytes) -> SurvivorView:
    """Reads a survivor view; WireError when it is none."""
    frame = _open(data, "survivors", MAX_VIEW_BYTES)
    return SurvivorView(
        round_number=read_number(frame, "round_number", _LAST_ROUND),
        vector_digests=read_rows(frame, "vector_digests", DIGEST_BYTES),
        commitments=read_rows(frame, "commitments", DIGEST_BYTES),
        share_commitments=read_matrix(frame, "share_commitments", DIGEST_BYTES),
        signatures=read_rows(frame, "signatures", SIGNATURE_BYTES),
        sealed_shares=read_rows(frame, "sealed_shares", SEALED_BYTES),
        dropped=read_indices(frame, "dropped"),
    )


def encode_echo(echo: Echo) -> bytes:
    """Returns an echo as bytes."""
    arrays: dict[str, NDArray[Any]] = {
        "signature": row(echo.signature),
        "survivors": indices(echo.survivors),
    }
    return pack("echo", _sender(echo), arrays)


def decode_echo(data: bytes) -> Echo:
    """Reads an echo; WireError when it is none."""
    frame = _open(data, "echo", MAX_MESSAGE_BYTES)
    return Echo(
        index=read_number(frame, "index", MOST_PARTIES),
        round_number=read_number(frame, "round_number", _LAST_ROUND),
        survivors=read_indices(frame, "survivors"),
        signature=read_row(frame, "signature", SIGNATURE_BYTES),
    )


def encode_certificate(certificate: Certificate) -> bytes:
    """Returns a certificate as bytes."""
    arrays = rows("signatures", certificate.signatures, SIGNATURE_BYTES) | {
        "survivors": indices(certificate.survivors)
    }
    return pack("certificate", {"round_number": certificate.round_number}, arrays)


def decode_certificate(data: bytes) -> Certificate:
    """Reads a certificate; WireError when it is none."""
    frame = _open(data, "certificate", MAX_MESSAGE_BYTES)
    return Certificate(
        round_number=read_number(frame, "round_number", _LAST_ROUND),
        survivors=read_indices(frame, "survivors"),
        signatures=read_rows(frame, "signatures", SIGNATURE_BYTES),
    )


def encode_reveal(reveal: Reveal) -> bytes:
    """Returns a reveal as bytes."""
    arrays = (
        rows("shares", reveal.shares, SHARE_BYTES)
        | rows("key_shares", reveal.key_shares, SHARE_BYTES)
        | {"signature": row(reveal.signature)}
    )
    return pack("reveal", _sender(reveal), arrays)


def decode_reveal(data: bytes) -> Reveal:
    """Reads a reveal; WireError when it is none."""
    frame = _open(data, "reveal", MAX_MESSAGE_BYTES)
    return Reveal(
        index=read_number(frame, "index", MOST_PARTIES),
        round_number=read_number(frame, "round_number", _LAST_ROUND),
        shares=read_rows(frame, "shares", SHARE_BYTES),
        key_shares=read_rows(frame, "key_shares", SHARE_BYTES),
        signature=read_row(frame, "signature", SIGNATURE_BYTES),
    )


def _sender(message: Enrolment | Upload | Echo | Reveal) -> dict[str, int]:
    """The head of a message from a party."""
    return {"index": message.index, "round_number": message.round_number}


def _open(data: bytes, kind: str, max_bytes: int) -> Frame:
    """Reads a frame that holds the arrays of its kind and no others."""
    frame = unpack(data, kind=kind, max_bytes=max_bytes)
    expected = {end for name in _ROWS[kind] for end in (name, f"{name}.indices")}
    expected |= set(_SINGLE[kind])
    if set(frame.arrays) != expected:
        different = sorted(set(frame.arrays) ^ expected)
        raise WireError(f"{kind}: arrays missing or not known: {different}")
    return frame
