"""CSV files in parts, as raw text.

    header = read_header(path)
    for block in text_blocks(path):         # pandas DataFrames of str
        ...

No error of these holds a cell.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import pandas as pd

from deployments.errors import OperatorError

_ROWS: Final = 65_536


def read_header(path: Path) -> tuple[str, ...]:
    """Returns the names of a CSV file's columns, without white space around them.

    Raises:
        OperatorError: there is no file, it is no CSV, or a name is there twice or empty.
    """
    names = tuple(name.strip() for name in next(_rows(path), []))
    if not names:
        raise OperatorError(f"{path} is empty")
    if len(names) == 1 and ";" in names[0]:
        raise OperatorError(f"{path}: columns are separated by semicolons; save it with commas")
    for place, name in enumerate(names, start=1):
        if not name:
            raise OperatorError(f"{path}: column {place} has no name; give it one")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise OperatorError(f"{path}: columns there twice: {', '.join(twice)}")
    return names


def text_blocks(path: Path) -> Iterator[pd.DataFrame]:
    """Yields the rows of a CSV file in parts, all cells text.

    Raises:
        OperatorError: as `read_header`, or a row is not as long as the header.
    """
    names = read_header(path)
    rows = _rows(path)
    next(rows)
    while block := list(islice(rows, _ROWS)):
        if any(len(row) != len(names) for row in block):
            raise OperatorError(f"{path}: a row has not as many cells as the header")
        yield pd.DataFrame(block, columns=list(names), dtype=str)


def _rows(path: Path) -> Iterator[list[str]]:
    """Yields the rows that are not blank; an error is raised where none that holds a cell is."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from (row for row in csv.reader(file, strict=True) if row)
            return
    except OSError as error:
        failure = error.strerror or "cannot be read"
    except (UnicodeDecodeError, csv.Error):
        failure = "no CSV file in UTF-8"
    raise OperatorError(f"{path}: {failure}")
