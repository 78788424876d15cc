"""The report on a hospital's data, which never leaves the hospital.

    report = report_on(blocks, contract, split_key=key)
    report.broken       # the contract's rules that the data break, counted
    report.warnings     # what a person should look at; nothing is refused for it

It is made block by block and holds counts: how many rows there are matters to neither its size nor,
but for `fl.repeats`, to what making it takes. The order of rows does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl.column_counts import ColumnReport, Counter, counter_of, patient_counter
from fl.contract import DataContract
from fl.errors import Violation
from fl.raw_column import raw_column
from fl.repeats import Repeats, RowDigests
from fl.unit_suspicion import UnitSuspicion

FEW_ROWS: Final = 100
"""Fewer teach a model little under the noise that protects them."""

MUCH_MISSING: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """What a hospital's data are like, held to a data contract. Private, like the rows.

    Attributes:
        rows: rows, or images, in all.
        columns: each column of the contract, or of its label file.
        negative: rows of the negative class.
        positive: rows of the positive class.
        repeats: what there is more than once.
        faults: rules that no one column breaks, such as those about images.
    """

    rows: int
    columns: tuple[ColumnReport, ...]
    negative: int
    positive: int
    repeats: Repeats
    faults: tuple[Violation, ...] = ()

    @property
    def broken(self) -> tuple[Violation, ...]:
        """The contract's rules that the data break, with the rows that break each."""
        empty = () if self.rows else (Violation("", "empty-table"),)
        return (*empty, *self.faults, *(rule for column in self.columns for rule in column.broken))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look at, a sentence each; suspicions, not broken rules."""
        return (*_of_rows(self), *_of_columns(self), *_of_repeats(self.repeats))


def counted(count: int, noun: str) -> str:
    """Returns a count and what is counted: ``1 row``, ``2 rows``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def report_on(
    blocks: Iterable[pd.DataFrame], contract: DataContract, *, split_key: bytes | None = None
) -> DataReport:
    """Holds a table of raw text to a contract.

    Args:
        blocks: the table's rows in parts, with all columns of the contract as text.
        contract: what the table must look like.
        split_key: the hospital's secret that fixes which rows are held out; without it the report
            does not say what training and held-out part would share.

    Raises:
        KeyError: a block lacks a column of the contract.
    """
    report = TextReport(contract, split_key)
    for block in blocks:
        report.take(block)
    return report.report()


class TextReport:
    """A report while it is made.

    Args:
        contract: what the rows must look like.
        split_key: as of `report_on`.
    """

    def __init__(self, contract: DataContract, split_key: bytes | None = None) -> None:
        self._contract = contract
        self._counters = _counters(contract)
        self._digests = RowDigests(split_key)
        self._classes = np.zeros(2, np.int64)
        self._rows = 0

    def take(self, block: pd.DataFrame, contents: NDArray[np.uint64] | None = None) -> None:
        """Counts n rows.

        Args:
            block: the contract's columns, as text.
            contents: shape (n, k), what equal rows have in common; without it all cells but the
                patient's are.
        """
        contract = self._contract
        found = {name: raw_column(block[name], contract.missing_tokens) for name in contract.names}
        taken = {name: counter.take(found[name]) for name, counter in self._counters.items()}
        if contents is None:
            contents = np.column_stack([taken[name] for name in taken if name != contract.patient])
        patients = None if contract.patient is None else found[contract.patient]
        self._digests.take(contents, patients)
        label = found[contract.label.name]
        for place, name in enumerate((contract.label.negative, contract.label.positive)):
            self._classes[place] += label.among([name]).sum()
        self._rows += len(block)

    def report(self, *, faults: tuple[Violation, ...] = ()) -> DataReport:
        """Returns the report on the rows so far, with rules that others found broken."""
        negative, positive = self._classes
        return DataReport(
            rows=self._rows,
            columns=tuple(counter.report() for counter in self._counters.values()),
            negative=int(negative),
            positive=int(positive),
            repeats=self._digests.repeats(),
            faults=faults,
        )


def _counters(contract: DataContract) -> dict[str, Counter]:
    counters = {column.name: counter_of(column) for column in (*contract.columns, contract.label)}
    if contract.patient is not None:
        counters[contract.patient] = patient_counter(contract.patient)
    for subgroup in contract.subgroups:
        counters.setdefault(subgroup.name, counter_of(subgroup))
    return counters


def _of_rows(report: DataReport) -> Iterator[str]:
    if 0 < report.rows < FEW_ROWS:
        yield (
            f"{counted(report.rows, 'row')} in all: under the noise that protects them, few rows "
            "teach little"
        )
    if report.rows and not (report.negative and report.positive):
        yield "one class only: these rows alone teach no model to tell the classes apart"


def _of_columns(report: DataReport) -> Iterator[str]:
    for column in report.columns:
        if column.suspicion is not None:
            yield f"{column.name}: {_suspected(column.suspicion)}"
        if column.decimal_commas:
            yield (
                f"{column.name}: {counted(column.decimal_commas, 'cell')} with a decimal comma; "
                "the contract's numbers have a point"
            )
        if column.missing > MUCH_MISSING * report.rows:
            share = column.missing / report.rows
            yield f"{column.name}: {share:.0%} of the cells are empty"


def _suspected(found: UnitSuspicion) -> str:
    other = f"in {found.unit}" if found.unit else "off by a slip of the decimal point"
    looked_at = {
        "out-of-range": "values out of range would be within",
        "typical": "values would be typical, as few are now",
        "sliver": "values would be in range, and now fill a sliver of it",
    }[found.ground]
    return (
        f"the numbers may be {other}: {found.cells} of {found.of} {looked_at} after {found.formula}"
    )


def _of_repeats(repeats: Repeats) -> Iterator[str]:
    if repeats.equal_rows:
        yield (
            f"{counted(repeats.equal_rows, 'row')}: a repetition of an earlier row, in every "
            "column of the contract"
        )
    if repeats.rows_of_several_patients:
        leak = repeats.held_out_rows_also_trained_on
        what = (
            "figures on held-out rows are too good where one is trained on and one held out"
            if leak is None
            else f"{counted(leak, 'held-out row')} equal to one that is trained on can make "
            "figures too good"
        )
        yield (
            f"{counted(repeats.rows_of_several_patients, 'row')}: equal to a row of another "
            f"patient, so that {what}"
        )
    if repeats.patients_spelled_apart:
        both = repeats.patients_on_both_sides
        sides = "" if both is None else f", {both} of them trained on and held out"
        yield (
            f"{counted(repeats.patients_spelled_apart, 'patient')} written in several ways, which "
            f"differ in case, width or white space alone{sides}: each way counts as a patient of "
            "its own, with a privacy loss of its own"
        )
