"""A hospital's data as a model reads it: frozen arrays, one row a record.

``fl.data`` reads them, ``fl.split`` parts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.row_store import chosen_rows, slices


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A hospital's rows, ready for a model.

    Attributes:
        features: float32, shape (n, d), each column scaled so that its public range, or its typical
            one, is -1 … 1, and NaN where a cell is empty and that tells nothing; or the pixels of
            images, uint8 or float32, shape (n, channels, height, width). May lie on disk
            (``numpy.memmap``).
        labels: float32, shape (n,): 1 for the positive class, 0 for the negative.
        patients: int64, shape (n,): each row's patient, 0 to p - 1, every number in use; None where
            each row counts as a patient of its own.
        patient_digests: uint8, shape (p, 32): the SHA-256 of each patient's identifier, which no
            change of other rows moves; None where ``patients`` is. Private, like the rows.
        groups: int8, shape (n, s): each row's group in each of the contract's s subgroups, -1 for
            none; None without subgroups.
    """

    features: NDArray[np.float32] | NDArray[np.uint8]
    labels: NDArray[np.float32]
    patients: NDArray[np.int64] | None = None
    patient_digests: NDArray[np.uint8] | None = None
    groups: NDArray[np.int8] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def one_class_only(self) -> bool:
        """Whether a class is missing. That is allowed, but worth a warning to the data steward."""
        return len(np.unique(self.labels)) < 2

    def rows(self, chosen: NDArray[np.bool_]) -> Table:
        """Returns the chosen rows (bool, shape (n,)); their patients are numbered anew.

        Features that are many lie on the disk, as the table's own do.
        """
        features, labels = chosen_rows(self.features, chosen), self.labels[chosen]
        groups = None if self.groups is None else self.groups[chosen]
        if self.patients is None:
            return Table(features, labels, groups=groups)
        kept, patients = np.unique(self.patients[chosen], return_inverse=True)
        digests = None if self.patient_digests is None else self.patient_digests[kept]
        return Table(features, labels, patients.astype(np.int64), digests, groups)


def canonical(values: NDArray[Any]) -> NDArray[Any]:
    """Returns values of which equal ones have equal bytes: pixels as they are, else little-endian.

    There is one zero, and one value that is no number.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    one_zero = values.astype("<f4", order="C") + np.float32(0)
    one_zero[np.isnan(one_zero)] = np.nan
    return one_zero


def canonical_blocks(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yields the `canonical` rows of an array, some megabytes at once."""
    for part in slices(len(values), values.nbytes // max(1, len(values))):
        yield canonical(values[part])


@dataclass(frozen=True, slots=True)
class Split:
    """A table in two parts: one to train on, one that training never sees.

    Attributes:
        train: rows to train on, all of each patient's.
        held_out: rows to evaluate on, one of each patient, so that a patient adds one to one count
            of all rows and to one at most of each subgroup.
    """

    train: Table
    held_out: Table
