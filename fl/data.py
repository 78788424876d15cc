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
import io
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl.contract import DataContract, Label, NumberColumn
from fl.errors import ContractViolation, Violation
from fl.table import Table

# Python's float() reads more than a data steward means: "nan", "1_000", digits of other scripts.
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


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


def _scaled(values: NDArray[np.float64], column: NumberColumn) -> NDArray[np.float32]:
    # The width of a range of finite numbers may itself be too large for a float; its half is not.
    scale = 1.0 if math.isfinite(column.maximum - column.minimum) else 0.5
    low, high = column.scale[0] * scale, column.scale[1] * scale
    return (2 * ((values * scale - low) / (high - low)) - 1).astype(np.float32)


def _counted(name: str, masks: dict[str, NDArray[np.bool_]]) -> list[Violation]:
    return [
        Violation(name, rule, int(count))
        for rule, mask in masks.items()
        if (count := np.count_nonzero(mask))
    ]
