"""The messages of a secure sum as bytes.

    data = encode_upload(upload)
    upload = decode_upload(data, parameters=parameters)

Keys, signatures and shares travel as rows of bytes beside the ascending indices of their parties,
the share commitments of several dealers as one matrix of rows: each dealer's by receiver.
A decoder refuses, with WireError, what is larger than 256 parties can need, and any value of wrong
size; whether the values are right is for ``privacy.secagg`` to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.errors import WireError
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
        _rows("sealed_shares", enrolment.sealed_shares, SEALED_BYTES)
        | _rows("share_commitments", enrolment.share_commitments, DIGEST_BYTES)
        | {"public_key": _row(enrolment.public_key), "signature": _row(enrolment.signature)}
    )
    return pack("enrolment", _sender(enrolment), arrays)


def decode_enrolment(data: bytes) -> Enrolment:
    """Reads an enrolment; WireError when it is none."""
    frame = _open(data, "enrolment", MAX_MESSAGE_BYTES)
    return Enrolment(
        index=_number(frame, "index", MOST_PARTIES),
        round_number=_number(frame, "round_number", _LAST_ROUND),
        public_key=_read_row(frame, "public_key", KEY_BYTES),
        signature=_read_row(frame, "signature", SIGNATURE_BYTES),
        sealed_shares=_read_rows(frame, "sealed_shares", SEALED_BYTES),
        share_commitments=_read_rows(frame, "share_commitments", DIGEST_BYTES),
    )


def encode_cohort(view: CohortView) -> bytes:
    """Returns a cohort view as bytes."""
    arrays = (
        _rows("public_keys", view.public_keys, KEY_BYTES)
        | _rows("signatures", view.signatures, SIGNATURE_BYTES)
        | _matrix("share_commitments", view.share_commitments, DIGEST_BYTES)
        | _rows("sealed_shares", view.sealed_shares, SEALED_BYTES)
    )
    return pack("cohort", {"round_number": view.round_number}, arrays)


def decode_cohort(data: bytes) -> CohortView:
    """Reads a cohort view; WireError when it is none."""
    frame = _open(data, "cohort", MAX_VIEW_BYTES)
    return CohortView(
        round_number=_number(frame, "round_number", _LAST_ROUND),
        public_keys=_read_rows(frame, "public_keys", KEY_BYTES),
        signatures=_read_rows(frame, "signatures", SIGNATURE_BYTES),
        share_commitments=_read_matrix(frame, "share_commitments", DIGEST_BYTES),
        sealed_shares=_read_rows(frame, "sealed_shares", SEALED_BYTES),
    )


def encode_upload(upload: Upload) -> bytes:
    """Returns an upload as bytes."""
    arrays = (
        _rows("sealed_shares", upload.sealed_shares, SEALED_BYTES)
        | _rows("share_commitments", upload.share_commitments, DIGEST_BYTES)
        | {
            "bad_dealers": _indices(upload.bad_dealers),
            "commitment": _row(upload.commitment),
            "masked": upload.masked,
            "signature": _row(upload.signature),
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
        index=_number(frame, "index", MOST_PARTIES),
        round_number=_number(frame, "round_number", _LAST_ROUND),
        masked=_array(frame, "masked", parameters.dtype, (parameters.length,)),
        commitment=_read_row(frame, "commitment", DIGEST_BYTES),
        signature=_read_row(frame, "signature", SIGNATURE_BYTES),
        sealed_shares=_read_rows(frame, "sealed_shares", SEALED_BYTES),
        share_commitments=_read_rows(frame, "share_commitments", DIGEST_BYTES),
        bad_dealers=_read_indices(frame, "bad_dealers"),
    )


def encode_survivors(view: SurvivorView) -> bytes:
    """Returns a survivor view as bytes."""
    arrays = (
        _rows("vector_digests", view.vector_digests, DIGEST_BYTES)
        | _rows("commitments", view.commitments, DIGEST_BYTES)
        | _matrix("share_commitments", view.share_commitments, DIGEST_BYTES)
        | _rows("signatures", view.signatures, SIGNATURE_BYTES)
        | _rows("sealed_shares", view.sealed_shares, SEALED_BYTES)
        | {"dropped": _indices(view.dropped)}
    )
    return pack("survivors", {"round_number": view.round_number}, arrays)


def decode_survivors(data: bytes) -> SurvivorView:
    """Reads a survivor view; WireError when it is none."""
    frame = _open(data, "survivors", MAX_VIEW_BYTES)
    return SurvivorView(
        round_number=_number(frame, "round_number", _LAST_ROUND),
        vector_digests=_read_rows(frame, "vector_digests", DIGEST_BYTES),
        commitments=_read_rows(frame, "commitments", DIGEST_BYTES),
        share_commitments=_read_matrix(frame, "share_commitments", DIGEST_BYTES),
        signatures=_read_rows(frame, "signatures", SIGNATURE_BYTES),
        sealed_shares=_read_rows(frame, "sealed_shares", SEALED_BYTES),
        dropped=_read_indices(frame, "dropped"),
    )


def encode_echo(echo: Echo) -> bytes:
    """Returns an echo as bytes."""
    arrays = {"signature": _row(echo.signature), "survivors": _indices(echo.survivors)}
    return pack("echo", _sender(echo), arrays)


def decode_echo(data: bytes) -> Echo:
    """Reads an echo; WireError when it is none."""
    frame = _open(data, "echo", MAX_MESSAGE_BYTES)
    return Echo(
        index=_number(frame, "index", MOST_PARTIES),
        round_number=_number(frame, "round_number", _LAST_ROUND),
        survivors=_read_indices(frame, "survivors"),
        signature=_read_row(frame, "signature", SIGNATURE_BYTES),
    )


def encode_certificate(certificate: Certificate) -> bytes:
    """Returns a certificate as bytes."""
    arrays = _rows("signatures", certificate.signatures, SIGNATURE_BYTES) | {
        "survivors": _indices(certificate.survivors)
    }
    return pack("certificate", {"round_number": certificate.round_number}, arrays)


def decode_certificate(data: bytes) -> Certificate:
    """Reads a certificate; WireError when it is none."""
    frame = _open(data, "certificate", MAX_MESSAGE_BYTES)
    return Certificate(
        round_number=_number(frame, "round_number", _LAST_ROUND),
        survivors=_read_indices(frame, "survivors"),
        signatures=_read_rows(frame, "signatures", SIGNATURE_BYTES),
    )


def encode_reveal(reveal: Reveal) -> bytes:
    """Returns a reveal as bytes."""
    arrays = (
        _rows("shares", reveal.shares, SHARE_BYTES)
        | _rows("key_shares", reveal.key_shares, SHARE_BYTES)
        | {"signature": _row(reveal.signature)}
    )
    return pack("reveal", _sender(reveal), arrays)


def decode_reveal(data: bytes) -> Reveal:
    """Reads a reveal; WireError when it is none."""
    frame = _open(data, "reveal", MAX_MESSAGE_BYTES)
    return Reveal(
        index=_number(frame, "index", MOST_PARTIES),
        round_number=_number(frame, "round_number", _LAST_ROUND),
        shares=_read_rows(frame, "shares", SHARE_BYTES),
        key_shares=_read_rows(frame, "key_shares", SHARE_BYTES),
        signature=_read_row(frame, "signature", SIGNATURE_BYTES),
    )


def _sender(message: Enrolment | Upload | Echo | Reveal) -> dict[str, int]:
    """The head of a message from a party."""
    return {"index": message.index, "round_number": message.round_number}


def _row(value: bytes) -> NDArray[np.uint8]:
    """Bytes as an array."""
    return np.frombuffer(value, np.uint8)


def _indices(parties: Iterable[int]) -> NDArray[np.uint32]:
    """Parties as an array, ascending."""
    return np.array(sorted(parties), np.uint32)


def _rows(name: str, values: Mapping[int, bytes], size: int) -> dict[str, NDArray[Any]]:
    """Bytes by party as two arrays: the ascending indices, one row for each."""
    for index, value in values.items():
        if len(value) != size:
            raise WireError(f"{name}: {size} bytes are needed for {index}, not {len(value)}")
    indices = sorted(values)
    joined = b"".join(values[index] for index in indices)
    return {
        f"{name}.indices": _indices(indices),
        name: np.frombuffer(joined, np.uint8).reshape(len(indices), size),
    }


def _matrix(
    name: str, values: Mapping[int, Mapping[int, bytes]], size: int
) -> dict[str, NDArray[Any]]:
    """Bytes by dealer and receiver as three arrays: dealers, receivers, one row for each pair."""
    receivers = {tuple(sorted(row)) for row in values.values()} or {()}
    if len(receivers) > 1:
        raise WireError(f"{name}: the dealers do not have the same receivers")
    (columns,) = receivers
    rows = [_rows(name, values[dealer], size)[name] for dealer in sorted(values)]
    return {
        f"{name}.indices": _indices(values),
        f"{name}.receivers": _indices(columns),
        name: np.stack(rows) if rows else np.zeros((0, 0, size), np.uint8),
    }


def _open(data: bytes, kind: str, max_bytes: int) -> Frame:
    """Reads a frame that holds the arrays of its kind and no others."""
    frame = unpack(data, kind=kind, max_bytes=max_bytes)
    rows = {end for name in _ROWS[kind] for end in (name, f"{name}.indices")}
    expected = rows | set(_SINGLE[kind])
    if set(frame.arrays) != expected:
        different = sorted(set(frame.arrays) ^ expected)
        raise WireError(f"{kind}: arrays missing or not known: {different}")
    return frame


def _number(frame: Frame, name: str, most: int) -> int:
    """Reads an integer of 1 to ``most`` from the head."""
    value = frame.head.get(name)
    if type(value) is not int or not 1 <= value <= most:
        raise WireError(f"{frame.kind}: {name} must be an integer of 1 to {most}")
    return value


def _array(frame: Frame, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Reads an array of known type and shape."""
    array = frame.arrays[name]
    if array.dtype != dtype or array.shape != shape:
        raise WireError(
            f"{frame.kind}: {name} must be {dtype} {shape}, it is {array.dtype} {array.shape}"
        )
    return array


def _read_row(frame: Frame, name: str, size: int) -> bytes:
    """Reads bytes of known size."""
    return _array(frame, name, np.dtype(np.uint8), (size,)).tobytes()


def _read_rows(frame: Frame, name: str, size: int) -> dict[int, bytes]:
    """Reads bytes by party."""
    indices = _read_indices(frame, f"{name}.indices")
    rows = _array(frame, name, np.dtype(np.uint8), (len(indices), size))
    return {index: row.tobytes() for index, row in zip(indices, rows, strict=True)}


def _read_matrix(frame: Frame, name: str, size: int) -> dict[int, dict[int, bytes]]:
    """Reads bytes by dealer and receiver."""
    dealers = _read_indices(frame, f"{name}.indices")
    receivers = _read_indices(frame, f"{name}.receivers")
    shape = (len(dealers), len(receivers), size)
    matrix = _array(frame, name, np.dtype(np.uint8), shape)
    return {
        dealer: {index: row.tobytes() for index, row in zip(receivers, rows, strict=True)}
        for dealer, rows in zip(dealers, matrix, strict=True)
    }


def _read_indices(frame: Frame, name: str) -> tuple[int, ...]:
    """Reads parties."""
    count = frame.arrays[name].size
    indices: list[int] = _array(frame, name, np.dtype("<u4"), (count,)).tolist()
    if indices != sorted(set(indices)) or not all(1 <= i <= MOST_PARTIES for i in indices):
        raise WireError(f"{frame.kind}: {name}: indices must ascend within 1 to {MOST_PARTIES}")
    return tuple(indices)
