"""A hospital's table: read, held to the data contract, scaled, and split for evaluation.

    table = load_table(Path("data/"), contract)
    parts = split(table, key=site_key)
    parts.train.features  # float32, (n, d), from -1 to 1

Nothing read from a row leaves this module except as numbers in a `Table`: errors name columns,
rules and counts of rows. The rules are

==================  =============================================================================
``no-such-file``    the path names no file, or a folder without a CSV file
``several-files``   a folder with more than one CSV file; counts the files
``unreadable-file`` the system refuses to read the file
``not-a-csv``       not UTF-8, a NUL character, an open quote, or a row longer than the header
``empty-table``     no header, or no row below it
``missing-column``  a column of the contract is not in the header
``repeated-column`` a column of the contract is in the header twice
``missing-value``   an empty cell
``not-a-number``    text, ``NaN`` or an infinity where the contract has a number
``out-of-range``    a number outside the contract's public range
``unknown-label``   neither of the contract's two classes
==================  =============================================================================
"""

from __future__ import annotations

import hashlib
import hmac
import io
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl.contract import Column, DataContract, Label
from fl.errors import ContractViolation, Violation

LEAST_KEY_BYTES: Final = 16

# Python's float() reads more than a data steward means: "nan", "1_000", digits of other scripts.
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A hospital's rows, ready for a model.

    Attributes:
        features: float32, shape (n, d), each column scaled to -1 … 1 by its public range.
        labels: float32, shape (n,): 1 for the positive class, 0 for the negative.
        patients: int64, shape (n,): each row's patient, 0 to p - 1, every number in use; None where
            each row counts as a patient of its own.
        patient_digests: uint8, shape (p, 32): the SHA-256 of each patient's identifier, which no
            change of other rows moves; None where ``patients`` is. Private, like the rows.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.float32]
    patients: NDArray[np.int64] | None = None
    patient_digests: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def one_class_only(self) -> bool:
        """Whether a class is missing. That is allowed, but worth a warning to the data steward."""
        return len(np.unique(self.labels)) < 2

    def rows(self, chosen: NDArray[np.bool_]) -> Table:
        """Returns the chosen rows (bool, shape (n,)); their patients are numbered anew."""
        features, labels = self.features[chosen], self.labels[chosen]
        if self.patients is None:
            return Table(features, labels)
        kept, patients = np.unique(self.patients[chosen], return_inverse=True)
        digests = None if self.patient_digests is None else self.patient_digests[kept]
        return Table(features, labels, patients.astype(np.int64), digests)


@dataclass(frozen=True, slots=True)
class Split:
    """A table in two parts: one to train on, one that training never sees.

    Attributes:
        train: rows to train on, all of each patient's.
        held_out: rows to evaluate on, one of each patient, so that a patient adds one to one count.
    """

    train: Table
    held_out: Table


def load_table(path: Path, contract: DataContract) -> Table:
    """Reads a hospital's table and holds it to the contract.

    Columns that the contract does not name are ignored; a byte order mark and white space around
    values are tolerated.

    Args:
        path: a CSV file in UTF-8 with a header, or a folder that holds exactly one.
        contract: the columns, their public ranges, and the label.

    Raises:
        ContractViolation: every broken rule at once, with counts. No error of pandas travels with
            it, not even as its context: those quote rows.
    """
    # Errors are raised here, where no local variable holds a row: some log tools show locals.
    outcome = _read(path, contract)
    if isinstance(outcome, Table):
        return outcome
    raise ContractViolation(outcome)


def split(table: Table, *, key: bytes, held_out: float = 0.25) -> Split:
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
    # Adding zero turns -0.0 into 0.0, which is the same value in other bytes.
    rows = np.column_stack([table.features, table.labels]).astype("<f4") + np.float32(0)
    hashes = _keyed_hashes(key, rows)
    limit = int(held_out * 2**64)
    if table.patients is None:
        out = hashes < limit
        return Split(train=table.rows(~out), held_out=table.rows(out))
    if table.patient_digests is None:
        raise ValueError("split: the table names patients without digests of their identifiers")
    # A key of its own: identifiers and rows must not share a space of hashes.
    patient_key = hmac.digest(key, b"fedmed split by patient v1", "sha256")
    out = (_keyed_hashes(patient_key, table.patient_digests) < limit)[table.patients]
    return Split(
        train=table.rows(~out), held_out=table.rows(out & _first_of_each(table.patients, hashes))
    )


def features_of(frame: pd.DataFrame, contract: DataContract) -> NDArray[np.float32]:
    """Returns a frame's contract columns, checked and scaled: float32, shape (n, d).

    Args:
        frame: raw columns under the contract's names, as text or numbers; others are ignored.
        contract: the columns and their public ranges.

    Raises:
        ContractViolation: every broken rule at once, with counts.
    """
    if missing := _header_violations(frame, [column.name for column in contract.columns]):
        raise ContractViolation(missing)
    features, violations = _features(frame, contract)
    if violations:
        raise ContractViolation(violations)
    return features


def _read(path: Path, contract: DataContract) -> Table | list[Violation]:
    text = _text_of(path)
    if isinstance(text, Violation):
        return [text]
    frame = _frame_of(text)
    if isinstance(frame, Violation):
        return [frame]
    if violations := _header_violations(frame, contract.names):
        return violations
    features, violations = _features(frame, contract)
    labels, label_violations = _labels(frame[contract.label.name], contract.label)
    violations += label_violations
    if contract.patient is None:
        return violations or Table(features, labels)
    patients, digests, patient_violations = _patients(frame[contract.patient], contract.patient)
    return violations + patient_violations or Table(features, labels, patients, digests)


def _text_of(path: Path) -> str | Violation:
    try:
        if path.is_dir():
            files = [
                file
                for file in path.iterdir()
                if file.suffix.lower() == ".csv" and not file.name.startswith(".")
            ]
            if len(files) > 1:
                return Violation("", "several-files", len(files))
            if not files:
                return Violation("", "no-such-file")
            path = files[0]
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return Violation("", "no-such-file")
    except OSError:
        return Violation("", "unreadable-file")
    except UnicodeDecodeError:
        return Violation("", "not-a-csv")
    return Violation("", "not-a-csv") if "\0" in text else text


def _frame_of(text: str) -> pd.DataFrame | Violation:
    # The header is read as a row: given a header, pandas renames repeated columns and takes the
    # first column of a longer row for an index.
    try:
        frame = pd.read_csv(io.StringIO(text), header=None, dtype=str, na_filter=False)
    except pd.errors.EmptyDataError:
        return Violation("", "empty-table")
    except ValueError:
        return Violation("", "not-a-csv")
    if len(frame) < 2:
        return Violation("", "empty-table")
    frame.columns = frame.iloc[0].str.strip()
    return frame.iloc[1:]


def _header_violations(frame: pd.DataFrame, names: Sequence[str]) -> list[Violation]:
    found = Counter(frame.columns)
    return [
        Violation(name, "repeated-column" if found[name] else "missing-column")
        for name in names
        if found[name] != 1
    ]


def _features(
    frame: pd.DataFrame, contract: DataContract
) -> tuple[NDArray[np.float32], list[Violation]]:
    features = np.zeros((len(frame), len(contract.columns)), np.float32)
    violations: list[Violation] = []
    for index, column in enumerate(contract.columns):
        values, missing = _numbers(frame[column.name])
        unreadable = np.isnan(values) & ~missing
        outside = (values < column.minimum) | (values > column.maximum)
        rules = {"missing-value": missing, "not-a-number": unreadable, "out-of-range": outside}
        if broken := _counted(column.name, rules):
            violations += broken
        else:
            features[:, index] = _scaled(values, column)
    return features, violations


def _labels(cells: pd.Series, label: Label) -> tuple[NDArray[np.float32], list[Violation]]:
    text = cells.str.strip()
    missing = (text == "").to_numpy(bool)
    positive = (text == label.positive).to_numpy(bool)
    known = positive | (text == label.negative).to_numpy(bool)
    violations = _counted(
        label.name, {"missing-value": missing, "unknown-label": ~known & ~missing}
    )
    return positive.astype(np.float32), violations


def _patients(
    cells: pd.Series, name: str
) -> tuple[NDArray[np.int64], NDArray[np.uint8], list[Violation]]:
    """Returns each row's patient, by first appearance, and the digest of each identifier."""
    text = cells.str.strip()
    violations = _counted(name, {"missing-value": (text == "").to_numpy(bool)})
    numbers, identifiers = pd.factorize(text)
    digests = b"".join(hashlib.sha256(str(i).encode()).digest() for i in identifiers)
    return numbers.astype(np.int64), np.frombuffer(digests, np.uint8).reshape(-1, 32), violations


def _keyed_hashes(key: bytes, values: NDArray[Any]) -> NDArray[np.uint64]:
    """The first eight bytes of each row's HMAC, as a number: uint64, shape (n,)."""
    digests = (hmac.digest(key, value.tobytes(), "sha256") for value in values)
    return np.fromiter(
        (int.from_bytes(digest[:8], "big") for digest in digests), np.uint64, count=len(values)
    )


def _first_of_each(patients: NDArray[np.int64], hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether a row is the one of its patient with the least hash; one of equal rows is."""
    order = np.lexsort((hashes, patients))
    first = np.ones(len(order), bool)
    first[1:] = patients[order[1:]] != patients[order[:-1]]
    chosen = np.zeros(len(order), bool)
    chosen[order[first]] = True
    return chosen


def _numbers(cells: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns values, NaN where there is no number, and where a cell is empty."""
    if pd.api.types.is_numeric_dtype(cells):
        missing = cells.isna().to_numpy(bool)
        values = cells.to_numpy(np.float64, na_value=np.nan)
        return np.where(np.isinf(values), np.nan, values), missing
    # Plain strings: on a table of some hundred rows pandas' own string methods cost a round more
    # than its training does.
    text = [str(cell).strip() for cell in cells]
    missing = cells.isna().to_numpy(bool) | np.fromiter((not cell for cell in text), bool)
    # float() rounds correctly; pandas' own parser may be off by one unit in the last place and push
    # a value over the edge of its range.
    values = np.fromiter((float(c) if _NUMBER.fullmatch(c) else np.nan for c in text), np.float64)
    return np.where(missing, np.nan, values), missing


def _scaled(values: NDArray[np.float64], column: Column) -> NDArray[np.float32]:
    # The width of a range of finite numbers may itself be too large for a float; its half is not.
    scale = 1.0 if math.isfinite(column.maximum - column.minimum) else 0.5
    low, high = column.minimum * scale, column.maximum * scale
    return (2 * ((values * scale - low) / (high - low)) - 1).astype(np.float32)


def _counted(name: str, masks: dict[str, NDArray[np.bool_]]) -> list[Violation]:
    return [
        Violation(name, rule, int(count))
        for rule, mask in masks.items()
        if (count := np.count_nonzero(mask))
    ]
