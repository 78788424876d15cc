"""What kinds of columns a table has, before there is a contract.

    looks = look([Path("north.csv"), Path("south.csv")])
    looks["age"].kind       # "number"

A look holds values of the table, the least, the largest and the few distinct ones: they are private
unless the table is public. What of it may go into a draft without a person's word is its kind,
whether its numbers are whole and whether cells are empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np

from deployments.errors import OperatorError
from deployments.table_files import read_header, text_blocks
from fl.contract import MISSING_TOKENS
from fl.raw_column import RawColumn, raw_column

MOST_CATEGORIES: Final = 20
"""A column of more names is text."""

_NEARLY_ALL: Final = 0.95


class ColumnLook:
    """What a column of a table holds; see the module for what of it is private."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.missing = False
        self.whole = True
        self.minimum, self.maximum = math.inf, -math.inf
        self._numbers = self._names = 0
        self._distinct: set[str] = set()

    @property
    def kind(self) -> Literal["number", "category", "text", "empty"]:
        """What the column seems to be; a few cells that do not fit are a matter of the check."""
        if not self._numbers + self._names:
            return "empty"
        if self._numbers >= _NEARLY_ALL * (self._numbers + self._names):
            return "number"
        return "category" if self.distinct else "text"

    @property
    def distinct(self) -> tuple[str, ...]:
        """The distinct texts, sorted; empty where there are many."""
        return tuple(sorted(self._distinct)) if len(self._distinct) <= MOST_CATEGORIES else ()

    @property
    def two_valued(self) -> bool:
        """Whether the column could be a label."""
        return len(self.distinct) == 2

    def take(self, cells: RawColumn) -> None:
        """Looks at some rows more."""
        values, missing = cells.numbers()
        known = values[np.isfinite(values)]
        self.missing |= bool(missing.any())
        self._numbers += len(known)
        self._names += len(cells) - int(missing.sum()) - len(known)
        if len(known):
            self.minimum = min(self.minimum, float(known.min()))
            self.maximum = max(self.maximum, float(known.max()))
            self.whole &= bool((known == np.trunc(known)).all())
        if len(self._distinct) <= MOST_CATEGORIES:
            self._distinct.update(text for text in cells.texts if text not in cells.tokens)


def look(paths: Sequence[Path]) -> dict[str, ColumnLook]:
    """Reads CSV files of one header.

    Raises:
        OperatorError: a file cannot be read, has no rows, or another header than the first.
    """
    names = read_header(paths[0])
    looks = {name: ColumnLook(name) for name in names}
    for path in paths:
        _require_same(names, read_header(path), paths[0], path)
        rows = 0
        for block in text_blocks(path):
            rows += len(block)
            for name, found in looks.items():
                found.take(raw_column(block[name], MISSING_TOKENS))
        if not rows:
            raise OperatorError(f"{path} has no row below its header")
    return looks


def _require_same(
    expected: tuple[str, ...], found: tuple[str, ...], first: Path, path: Path
) -> None:
    lacks = [name for name in expected if name not in found]
    more = [name for name in found if name not in expected]
    said = [f"it lacks {', '.join(lacks)}"] if lacks else []
    said += [f"it has {', '.join(more)} more"] if more else []
    if said:
        raise OperatorError(f"{path} has another header than {first}: {'; '.join(said)}")
