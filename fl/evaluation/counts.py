"""Which counts of held-out rows ride along in a round, and in what order.

    counters(contract, "evaluation", evaluate=True)
    counts = encode(scores, labels, groups, subgroups=subgroups_of(contract, "evaluation"))
    decode(counts, subgroups=subgroups_of(contract, "evaluation")).overall

First the histogram of all rows; in a closing evaluation then, for each subgroup of the contract,
those of its groups in order. Rounds of a training count no subgroups: these would make the noise of
every evaluation larger (`fl.integer_noise.count_noise_std`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fl.contract import DataContract
from fl.errors import ModelError
from fl.evaluation.histogram import BINS, noised, score_histogram
from fl.subgroups import Subgroup

Kind = Literal["training", "evaluation"]

HISTOGRAM: Final = 2 * BINS
"""Counts of one histogram."""

COUNTS: Final = "counts"
"""The record of a reply under which they travel."""

WITH_SUBGROUPS: Final = "with-subgroups"
"""The entry of a message's config that asks for those of the subgroups: 0 or 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Counts by what they count, with noise or without.

    Attributes:
        overall: int64, shape (HISTOGRAM,): of all rows.
        groups: for each subgroup, int64, shape (its groups, HISTOGRAM).
    """

    overall: NDArray[np.int64]
    groups: tuple[NDArray[np.int64], ...] = ()


def subgroups_of(contract: DataContract, kind: Kind) -> tuple[Subgroup, ...]:
    """Returns the subgroups that a round of a kind counts."""
    return contract.subgroups if kind == "evaluation" else ()


def counters(contract: DataContract, kind: Kind, *, evaluate: bool) -> int:
    """Returns how many counts ride along in a round; none in one that does not evaluate."""
    return _counters(subgroups_of(contract, kind)) if evaluate else 0


def encode(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: NDArray[np.integer[Any]] | None,
    *,
    subgroups: Sequence[Subgroup] = (),
) -> NDArray[np.int64]:
    """Counts scores; a row adds one to the whole and at most one to each subgroup.

    Args:
        scores: probabilities of the positive class, shape (n,).
        labels: 0 or 1, shape (n,).
        groups: each row's group in each subgroup, -1 for none: integers, shape (n, s); anything
            where no subgroups are counted.
        subgroups: those to count.

    Raises:
        ModelError: scores or labels that are none, or groups that are not the subgroups'.
    """
    s, y = np.asarray(scores), np.asarray(labels)
    parts = [score_histogram(s, y).counts()]
    if subgroups:
        if groups is None or groups.shape != (len(s), len(subgroups)):
            shape = None if groups is None else groups.shape
            raise ModelError(f"groups of shape {shape}, expected {(len(s), len(subgroups))}")
        for subgroup, group in zip(subgroups, groups.T, strict=True):
            if outside := int(np.count_nonzero((group < -1) | (group >= len(subgroup.labels)))):
                raise ModelError(f"subgroup {subgroup.name!r}: {outside} rows are in no such group")
            parts += [
                score_histogram(s[group == g], y[group == g]).counts()
                for g in range(len(subgroup.labels))
            ]
    return np.concatenate(parts)


def decode(counts: ArrayLike, *, subgroups: Sequence[Subgroup] = ()) -> Counts:
    """Returns counts by what they count.

    Args:
        counts: whole numbers, of any sign, as ``encode`` has put them or a sum of such.
        subgroups: those that were counted.

    Raises:
        ModelError: another number of counts, or a value that is no whole number.
    """
    array = np.asarray(counts)
    if array.shape != (_counters(subgroups),):
        raise ModelError(f"score counts: shape {array.shape}, expected {(_counters(subgroups),)}")
    histograms = np.stack([noised(part) for part in array.reshape(-1, HISTOGRAM)])
    ends = np.cumsum([1, *(len(subgroup.labels) for subgroup in subgroups)])
    overall, *groups = np.split(histograms, ends[:-1])
    return Counts(overall[0], tuple(groups))


def _counters(subgroups: Sequence[Subgroup]) -> int:
    return HISTOGRAM * (1 + sum(len(subgroup.labels) for subgroup in subgroups))
