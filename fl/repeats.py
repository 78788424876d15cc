"""Equal rows, patients of several rows, and what training and held-out part would share.

    rows = RowDigests(key=site_key)
    rows.take(cells_as_numbers, patients)     # as often as there are blocks
    rows.repeats()

Rows and patients are kept as digests of 16 bytes: 50 bytes a row where the contract names patients,
16 where it does not, and about twice that while they are compared.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fl.raw_column import RawColumn
from fl.split import held_out_patients

_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """What there is more than once in a table. Private, like the rows.

    Attributes:
        equal_rows: rows that repeat an earlier one in every column of the contract.
        rows_of_several_patients: rows that are equal, but for the patient, to one of another
            patient.
        patients: distinct patients; None, like all that follows, where the contract names none.
        patients_of_several_rows: patients with two rows or more.
        patients_spelled_apart: patients whose identifiers differ in case, width or white space
            alone; each is two patients or more to the privacy accounting.
        held_out_rows_also_trained_on: held-out rows that are equal, but for the patient, to a row
            that is trained on; None without the hospital's split key.
        patients_on_both_sides: patients spelled apart of whom one spelling is trained on and
            another held out; None without the hospital's split key.
    """

    equal_rows: int
    rows_of_several_patients: int = 0
    patients: int | None = None
    patients_of_several_rows: int | None = None
    patients_spelled_apart: int | None = None
    held_out_rows_also_trained_on: int | None = None
    patients_on_both_sides: int | None = None


class RowDigests:
    """The digests of a table's rows and of their patients, block by block.

    Args:
        key: the hospital's split key; None where it is not at hand.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key
        self._contents, self._patients, self._folded = bytearray(), bytearray(), bytearray()
        self._held_out = bytearray()
        self._unnamed = 0

    def take(self, cells: NDArray[np.uint64], patients: RawColumn | None = None) -> None:
        """Adds n rows.

        Args:
            cells: shape (n, k), a number for each cell but the patient's.
            patients: whose the rows are.
        """
        content, width = np.ascontiguousarray(cells).tobytes(), cells.shape[1] * 8
        for start in range(0, len(content), width):
            row = content[start : start + width]
            self._contents += hashlib.blake2b(row, digest_size=_DIGEST_BYTES).digest()
        if patients is not None:
            self._take_patients(patients)

    def _take_patients(self, patients: RawColumn) -> None:
        exact = _digests(patients.texts)
        folded = _digests([_folded(text) for text in patients.texts])
        shown = exact[patients.codes, :_DIGEST_BYTES]
        same = folded[patients.codes, :_DIGEST_BYTES]
        # Who is not named is not one and the same person.
        shown[patients.missing] = same[patients.missing] = self._nobody(patients.missing.sum())
        self._patients += shown.tobytes()
        self._folded += same.tobytes()
        if self._key is not None:
            self._held_out += held_out_patients(exact, key=self._key)[patients.codes].tobytes()

    def _nobody(self, count: int) -> NDArray[np.uint8]:
        numbers = range(self._unnamed, self._unnamed + int(count))
        self._unnamed += int(count)
        return _digests([f"\0{number}" for number in numbers])[:, :_DIGEST_BYTES]

    def repeats(self) -> Repeats:
        """Returns what was found so far."""
        content = _groups(self._contents)
        if not self._patients:
            return Repeats(equal_rows=len(content) - _distinct(content))
        patient, folded = _groups(self._patients), _groups(self._folded)
        rows_of = np.bincount(patient)
        shared = _shared(content, patient)
        apart = _shared(folded, patient)
        both = None
        if self._key is not None:
            held_out = np.frombuffer(self._held_out, bool)
            leaking = _on_both_sides(content, held_out)[content] & held_out
            both = int(leaking.sum()), int(_on_both_sides(folded, held_out)[apart].sum())
        return Repeats(
            equal_rows=len(content) - _distinct_pairs(content, patient),
            rows_of_several_patients=int(shared[content].sum()),
            patients=len(rows_of),
            patients_of_several_rows=int((rows_of > 1).sum()),
            patients_spelled_apart=int(apart.sum()),
            held_out_rows_also_trained_on=None if both is None else both[0],
            patients_on_both_sides=None if both is None else both[1],
        )


def _digests(texts: Any) -> NDArray[np.uint8]:
    """The SHA-256 of each text, as `Table.patient_digests`: uint8, shape (p, 32)."""
    joined = b"".join(hashlib.sha256(text.encode()).digest() for text in texts)
    return np.frombuffer(joined, np.uint8).reshape(-1, 32)


def _folded(identifier: str) -> str:
    """An identifier as people read it, whatever its case, width and white space."""
    return "".join(unicodedata.normalize("NFKC", identifier).casefold().split())


def _groups(digests: bytearray) -> NDArray[np.int64]:
    """The number of each row's digest among the distinct ones: int64, shape (n,)."""
    halves = np.frombuffer(digests, np.uint64).reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    new = np.zeros(len(order), bool)
    new[1:] = (halves[order[1:]] != halves[order[:-1]]).any(axis=1)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(new)
    return numbers


def _distinct(groups: NDArray[np.int64]) -> int:
    return int(groups.max()) + 1 if len(groups) else 0


def _pairs(
    one: NDArray[np.int64], other: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct pairs, ordered by the first."""
    joined = np.unique(one * (_distinct(other) or 1) + other)
    return np.divmod(joined, _distinct(other) or 1)


def _distinct_pairs(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    return len(_pairs(one, other)[0])


def _shared(groups: NDArray[np.int64], patients: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a group has several patients: bool, by the group's number."""
    return np.bincount(_pairs(groups, patients)[0], minlength=_distinct(groups)) > 1


def _on_both_sides(groups: NDArray[np.int64], held_out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a group has rows held out and rows trained on: bool, by the group's number."""
    count = _distinct(groups)
    return (np.bincount(groups[held_out], minlength=count) > 0) & (
        np.bincount(groups[~held_out], minlength=count) > 0
    )
