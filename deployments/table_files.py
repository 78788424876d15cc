"""CSV files in parts, as raw text.

    header = read_header(path)
    for block in text_blocks(path):         # pandas DataFrames of str
        ...

No error of these holds a cell: those of pandas do.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pandas as pd

from deployments.errors import OperatorError
from fl.contract import DataContract
from fl.errors import ContractViolation, Violation

_ROWS: Final = 65_536


def read_header(path: Path) -> tuple[str, ...]:
    """Returns the names of a CSV file's columns, without white space around them.

    Raises:
        OperatorError: there is no file, it is no CSV, or a name is there twice or empty.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except (UnicodeDecodeError, csv.Error):
        raise OperatorError(f"{path} is no CSV file in UTF-8") from None
    names = tuple(name.strip() for name in header)
    if len(names) == 1 and ";" in names[0]:
        raise OperatorError(f"{path}: columns are separated by semicolons; save it with commas")
    if not names:
        raise OperatorError(f"{path} is empty")
    for place, name in enumerate(names, start=1):
        if not name:
            raise OperatorError(f"{path}: column {place} has no name; give it one")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise OperatorError(f"{path}: columns there twice: {', '.join(twice)}")
    return names


def text_blocks(path: Path) -> Iterator[pd.DataFrame]:
    """Yields the rows of a CSV file in parts, all cells text.

    Raises:
        OperatorError: as `read_header`, or a row longer than the header.
    """
    names = read_header(path)
    try:
        # Told the names, pandas neither renames columns nor takes the first for an index.
        with pd.read_csv(
            path,
            header=None,
            names=list(names),
            skiprows=1,
            index_col=False,
            dtype=str,
            na_filter=False,
            chunksize=_ROWS,
            encoding="utf-8-sig",
        ) as blocks:
            yield from blocks
    except pd.errors.EmptyDataError:
        return
    except (ValueError, UnicodeDecodeError):
        failed = True
    else:
        failed = False
    if failed:  # raised here, where no error of pandas is its context
        raise OperatorError(f"{path} is no CSV file, or a row is longer than its header")


def contract_blocks(path: Path, contract: DataContract) -> Iterator[pd.DataFrame]:
    """Yields the columns of a contract, as raw text, in parts.

    Args:
        path: a CSV file, or a folder that holds exactly one.
        contract: the columns.

    Raises:
        ContractViolation: there is no table, it is no CSV, or it lacks a column.
    """
    file = _file_of(path)
    try:
        header = set(read_header(file))
        if missing := [name for name in contract.names if name not in header]:
            raise ContractViolation([Violation(name, "missing-column") for name in missing])
        for block in text_blocks(file):
            yield block[list(contract.names)]
    except OperatorError:
        raise ContractViolation([Violation("", "not-a-csv")]) from None


def _file_of(path: Path) -> Path:
    files = [path]
    if path.is_dir():
        files = [f for f in path.iterdir() if f.suffix.lower() == ".csv" and f.name[0] != "."]
    if len(files) > 1:
        raise ContractViolation([Violation("", "several-files", len(files))])
    if not files or not files[0].exists():
        raise ContractViolation([Violation("", "no-such-file")])
    return files[0]
