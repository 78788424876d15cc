"""What a row is besides its features: its label, its patient and its subgroups."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl.cells import distinct, numbers
from fl.contract import DataContract, Label
from fl.encoding import counted, empty_cells, index_of_names
from fl.errors import Violation
from fl.subgroups import Subgroup


def labels_of(
    cells: pd.Series, label: Label, tokens: frozenset[str]
) -> tuple[NDArray[np.float32], list[Violation]]:
    """Returns 1 for the positive class and 0 for any other cell, and the broken rules."""
    places = index_of_names(cells, (label.negative, label.positive), tokens)
    rules = {"missing-value": places == -1, "unknown-label": places == -2}
    return (places == 1).astype(np.float32), counted(label.name, rules)


def groups_of(frame: pd.DataFrame, contract: DataContract) -> NDArray[np.int8]:
    """Returns each row's group in each subgroup, -1 for none: shape (n, s)."""
    tokens = empty_cells(contract)
    groups = np.full((len(frame), len(contract.subgroups)), -1, np.int8)
    for index, subgroup in enumerate(contract.subgroups):
        groups[:, index] = _groups(frame[subgroup.name], subgroup, tokens)
    return groups


def _groups(cells: pd.Series, subgroup: Subgroup, tokens: frozenset[str]) -> NDArray[np.int64]:
    if subgroup.groups:
        return np.maximum(index_of_names(cells, subgroup.groups, tokens), -1)
    values, _ = numbers(cells, tokens)
    edges = np.array(subgroup.bands)
    bands = np.searchsorted(edges, values, side="right") - 1
    bands[values == edges[-1]] = len(edges) - 2
    bands[~(values >= edges[0]) | ~(values <= edges[-1])] = -1
    return bands


class Patients:
    """Whose the rows are, block by block.

    Identifiers are kept as digests alone: that is what a table keeps of them, and all have one
    size, however long a hospital's identifiers are.
    """

    def __init__(self, name: str, tokens: frozenset[str]) -> None:
        self._name = name
        self._tokens = tokens
        self._codes: list[NDArray[np.int64]] = []
        self._digests = bytearray()
        self._known = 0

    def add(self, cells: pd.Series) -> list[Violation]:
        """Adds a block's rows; returns the broken rules."""
        codes, names = distinct(cells)
        self._codes.append(codes + self._known)
        self._digests += b"".join([hashlib.sha256(name.encode()).digest() for name in names])
        self._known += len(names)
        empty = np.array([name in self._tokens for name in names], bool)
        return counted(self._name, {"missing-value": empty[codes]})

    def numbered(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Returns each row's patient, by first appearance, and each patient's digest."""
        digests = np.frombuffer(self._digests, np.uint8).reshape(-1, 32)
        same, first = _first_appearance(digests)
        codes = np.concatenate(self._codes)
        if len(first) == len(digests):
            return codes, digests
        return same[codes], digests[first]


def _first_appearance(
    digests: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the number of each digest, and where each number appears first."""
    # By their first eight bytes, which are quick to compare; two digests that share them can be
    # made, and are then told apart the slow way.
    codes, known = pd.factorize(np.ascontiguousarray(digests[:, :8]).view(np.uint64)[:, 0])
    first = _first_of_each(codes, len(known))
    if len(known) < len(digests) and not np.array_equal(digests[first[codes]], digests):
        codes, known = pd.factorize(np.array([row.tobytes() for row in digests], object))
        first = _first_of_each(codes, len(known))
    return codes.astype(np.int64), first


def _first_of_each(codes: NDArray[np.int64], known: int) -> NDArray[np.int64]:
    first = np.zeros(known, np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # the last assignment stays
    return first
