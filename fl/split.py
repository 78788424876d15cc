"""Which rows of a hospital are trained on and which are held out, for ever.

parts = split(table, key=site_key)
parts.train.features
"""

from __future__ import annotations

import hmac
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fl.row_store import forget_pages, slices
from fl.table import Split, Table, canonical

LEAST_KEY_BYTES: Final = 16
HELD_OUT: Final = 0.2


def split(table: Table, *, key: bytes, held_out: float = HELD_OUT) -> Split:
    """Splits a table by a keyed hash of each patient's identifier, or of each row's content.

    A side depends on the patient (the row, where the table names no patients) and the key alone: it
    stays when rows are reordered or others come and go, equal rows fall on one side, and a patient
    more or less moves no other, which the privacy accounting needs.

    Of a patient's held-out rows the one whose keyed hash is the least is kept and the others are
    not used: a patient of many rows would otherwise change many of the counts that an evaluation
    releases.

    Args:
        table: n rows.
        key: the hospital's own secret, at least 16 bytes; without it nobody can tell a side.
        held_out: share of patients, or of distinct rows, held out in expectation, strictly between
            0 and 1.

    Raises:
        ValueError: a key too short, a share out of its bounds, or patients without digests.
    """
    if len(key) < LEAST_KEY_BYTES:
        raise ValueError(f"split: a key of {len(key)} bytes, at least {LEAST_KEY_BYTES} needed")
    if not 0 < held_out < 1:
        raise ValueError(f"split: held_out {held_out} must lie strictly between 0 and 1")
    limit = int(held_out * 2**64)
    if table.patients is None:
        out = _row_hashes(key, table, np.arange(len(table))) < limit
        return Split(train=table.rows(~out), held_out=table.rows(out))
    if table.patient_digests is None:
        raise ValueError("split: the table names patients without digests of their identifiers")
    out = held_out_patients(table.patient_digests, key=key, held_out=held_out)[table.patients]
    candidates = np.flatnonzero(out)
    hashes = _row_hashes(key, table, candidates)
    kept = np.zeros(len(table), bool)
    kept[candidates[_first_of_each(table.patients[candidates], hashes)]] = True
    return Split(train=table.rows(~out), held_out=table.rows(kept))


def held_out_patients(
    digests: NDArray[np.uint8], *, key: bytes, held_out: float = HELD_OUT
) -> NDArray[np.bool_]:
    """Returns whether patients are held out, by the digests of their identifiers alone.

    Args:
        digests: uint8, shape (p, 32), as `Table.patient_digests`.
        key: as of `split`.
        held_out: as of `split`.
    """
    # A key of its own: identifiers and rows must not share a space of hashes.
    patient_key = hmac.digest(key, b"fedmed split by patient v1", "sha256")
    return _keyed_hashes(patient_key, digests) < int(held_out * 2**64)


def _row_hashes(key: bytes, table: Table, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The keyed hashes of the content of some rows, features and label: uint64, shape (m,)."""
    hashes = [np.empty(0, np.uint64)]
    for part in slices(len(rows), table.features.nbytes // max(1, len(table))):
        arrays = (table.features[rows[part]], table.labels[rows[part]][:, None])
        content = [canonical(array.reshape(len(array), -1)).view(np.uint8) for array in arrays]
        hashes.append(_keyed_hashes(key, np.hstack(content)))
        forget_pages(table.features)
    return np.concatenate(hashes)


def _keyed_hashes(key: bytes, rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The first eight bytes of each row's HMAC, as a number: uint64, shape (n,)."""
    width = rows.shape[1]
    hashes = np.empty(len(rows), np.uint64)
    for part in slices(len(rows), width):
        content = rows[part].tobytes()
        starts = range(0, len(content), width)
        digests = [hmac.digest(key, content[start : start + width], "sha256") for start in starts]
        hashes[part] = np.frombuffer(b"".join(digests), ">u8")[::4]
    return hashes


def _first_of_each(patients: NDArray[np.int64], hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether a row is the one of its patient with the least hash; one of equal rows is."""
    order = np.lexsort((hashes, patients))
    first = np.ones(len(order), bool)
    first[1:] = patients[order[1:]] != patients[order[:-1]]
    chosen = np.zeros(len(order), bool)
    chosen[order[first]] = True
    return chosen
