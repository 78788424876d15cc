"""Counts of one column of the contract over blocks of rows; what `fl.data_report` is made of.

    counter = counter_of(column)
    counter.take(cells)
    counter.report()        # ColumnReport(name="age", kind="number", missing=3, …)

Counts alone are kept: no counter holds a value of a row.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Final, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl.contract import CategoryColumn, Label, NumberColumn
from fl.errors import Violation
from fl.raw_column import RawColumn
from fl.subgroups import Subgroup
from fl.unit_suspicion import UnitCounter, UnitSuspicion

_DECIMAL_COMMA: Final = re.compile(r"[+-]?[0-9]+,[0-9]+")

Kind = Literal["number", "category", "label", "patient", "subgroup"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnReport:
    """What a column of a hospital's table is like. Private, like the rows.

    Attributes:
        name: the contract's name of it.
        kind: what the contract has it for.
        missing: empty cells.
        not_a_number: text where a number should be.
        not_whole: numbers that are not whole where they should be.
        out_of_range: numbers outside the public range.
        unknown: names that are no category, class or group of the contract.
        decimal_commas: cells that would be numbers with a decimal point.
        suspicion: another unit that the numbers may be in.
        broken: the contract's rules that the column breaks.
    """

    name: str
    kind: Kind
    missing: int = 0
    not_a_number: int = 0
    not_whole: int = 0
    out_of_range: int = 0
    unknown: int = 0
    decimal_commas: int = 0
    suspicion: UnitSuspicion | None = None
    broken: tuple[Violation, ...] = ()


@dataclass(slots=True)
class _Counts:
    missing: int = 0
    not_a_number: int = 0
    not_whole: int = 0
    out_of_range: int = 0
    unknown: int = 0
    decimal_commas: int = 0


class Counter(Protocol):
    """Takes a column block by block."""

    def take(self, cells: RawColumn) -> NDArray[np.uint64]:
        """Counts the cells; returns for each what equal cells have in common: uint64, (n,)."""
        ...

    def report(self) -> ColumnReport:
        """Returns what was counted."""
        ...


class _NumberCounter:
    """Counts of a column of numbers."""

    def __init__(self, column: NumberColumn) -> None:
        self._column = column
        self._counts = _Counts()
        self._units = UnitCounter(column)

    def take(self, cells: RawColumn) -> NDArray[np.uint64]:
        (values, missing), counts = cells.numbers(), self._counts
        readable = ~np.isnan(values)
        finite = values[np.isfinite(values)]
        outside = (values < self._column.minimum) | (values > self._column.maximum)
        counts.missing += int(missing.sum())
        counts.not_a_number += int((~readable & ~missing).sum())
        counts.out_of_range += int(outside.sum())
        if self._column.whole:
            counts.not_whole += int((finite != np.round(finite)).sum())
        commas = [_DECIMAL_COMMA.fullmatch(text) is not None for text in cells.texts]
        counts.decimal_commas += int(np.array(commas, bool)[cells.codes].sum())
        self._units.take(finite)
        # Adding zero turns -0.0 into 0.0, which is the same value in other bytes.
        return np.where(readable, (values + 0.0).view(np.uint64), _hashed(cells, missing))

    def report(self) -> ColumnReport:
        counts, name = self._counts, self._column.name
        rules = {"not-a-number": counts.not_a_number, "not-whole": counts.not_whole}
        if self._column.out_of_range == "refuse":
            rules["out-of-range"] = counts.out_of_range
        if self._column.missing == "refuse":
            rules = {"missing-value": counts.missing} | rules
        return ColumnReport(
            name=name,
            kind="number",
            suspicion=self._units.suspicion(),
            broken=_broken(name, rules),
            **asdict(counts),
        )


class _NameCounter:
    """Counts of a column of names: categories, classes, groups, or any name at all.

    Args:
        name: the column's.
        kind: what the contract has it for.
        known: the names that may be there; None for any.
        missing: whether an empty cell breaks a rule.
        unknown: the rule that another name breaks; None where it breaks none.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        *,
        known: tuple[str, ...] | None,
        missing: bool,
        unknown: str | None,
    ) -> None:
        self._name, self._kind, self._known = name, kind, known
        self._missing, self._unknown = missing, unknown
        self._counts = _Counts()

    def take(self, cells: RawColumn) -> NDArray[np.uint64]:
        empty = cells.missing
        if self._known is not None:
            known = cells.among(self._known)
            empty = empty & ~known  # a contract may name a token for an empty cell as a category
            self._counts.unknown += int((~known & ~empty).sum())
        self._counts.missing += int(empty.sum())
        return _hashed(cells, empty)

    def report(self) -> ColumnReport:
        rules = {"missing-value": self._counts.missing} if self._missing else {}
        if self._unknown is not None:
            rules[self._unknown] = self._counts.unknown
        return ColumnReport(
            name=self._name,
            kind=self._kind,
            broken=_broken(self._name, rules),
            **asdict(self._counts),
        )


class _BandCounter:
    """Counts of a subgroup's column of numbers; none of them breaks a rule."""

    def __init__(self, subgroup: Subgroup) -> None:
        self._subgroup = subgroup
        self._counts = _Counts()

    def take(self, cells: RawColumn) -> NDArray[np.uint64]:
        (values, missing), bands = cells.numbers(), self._subgroup.bands
        within = (values >= bands[0]) & (values <= bands[-1])
        self._counts.missing += int(missing.sum())
        self._counts.unknown += int((~within & ~missing).sum())
        return np.where(np.isnan(values), _hashed(cells, missing), (values + 0.0).view(np.uint64))

    def report(self) -> ColumnReport:
        return ColumnReport(name=self._subgroup.name, kind="subgroup", **asdict(self._counts))


def counter_of(column: NumberColumn | CategoryColumn | Label | Subgroup) -> Counter:
    """Returns what counts a column of the contract."""
    match column:
        case NumberColumn():
            return _NumberCounter(column)
        case CategoryColumn():
            return _NameCounter(
                column.name,
                "category",
                known=column.categories,
                missing=column.missing == "refuse",
                unknown="unknown-category",
            )
        case Label():
            classes = (column.negative, column.positive)
            return _NameCounter(
                column.name, "label", known=classes, missing=True, unknown="unknown-label"
            )
        case Subgroup() if column.bands:
            return _BandCounter(column)
        case Subgroup():
            return _NameCounter(
                column.name, "subgroup", known=column.groups, missing=False, unknown=None
            )


def patient_counter(name: str) -> Counter:
    """Returns what counts the column that says whose a row is."""
    return _NameCounter(name, "patient", known=None, missing=True, unknown=None)


def _broken(name: str, rules: dict[str, int]) -> tuple[Violation, ...]:
    return tuple(Violation(name, rule, count) for rule, count in rules.items() if count)


def _hashed(cells: RawColumn, missing: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """A number for each text, one for all empty cells: uint64, shape (n,)."""
    hashed = pd.util.hash_array(np.array(cells.texts, dtype=object), categorize=False)
    return np.where(missing, np.uint64(0), hashed[cells.codes])
