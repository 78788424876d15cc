"""A column of raw text: its distinct texts, its numbers, and which of its cells are empty.

    column = raw_column(frame["age"], contract.missing_tokens)
    values, missing = column.numbers()

Each distinct text is looked at once, however many rows have it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl.cells import number_of


@dataclass(frozen=True, slots=True, eq=False)
class RawColumn:
    """The n cells of a column.

    Attributes:
        texts: the distinct texts, without white space around them; the same may be there twice.
        codes: int64, shape (n,): the place of each cell's text.
        missing: bool, shape (n,): whether a cell is empty or holds a token for an empty one.
        tokens: what stands for an empty cell.
    """

    texts: tuple[str, ...]
    codes: NDArray[np.int64]
    missing: NDArray[np.bool_]
    tokens: frozenset[str]

    def __len__(self) -> int:
        return len(self.codes)

    def numbers(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Returns values, NaN where there is no number, and where a cell is empty: shape (n,).

        A token that is a number, such as -9, stands for all its spellings.
        """
        found = (_number(text) for text in self.texts)
        values = np.fromiter(found, np.float64, count=len(self.texts))[self.codes]
        missing = self.missing | np.isin(values, [_number(token) for token in self.tokens])
        return np.where(missing, np.nan, values), missing

    def among(self, names: Collection[str]) -> NDArray[np.bool_]:
        """Returns whether a cell holds one of some names: bool, shape (n,)."""
        known = np.fromiter((text in names for text in self.texts), bool, count=len(self.texts))
        return known[self.codes]


def raw_column(cells: pd.Series, missing_tokens: Collection[str]) -> RawColumn:
    """Takes a column of text apart; a cell that pandas holds as absent is an empty one."""
    codes, distinct = pd.factorize(cells, use_na_sentinel=False)
    texts = tuple(text.strip() if isinstance(text, str) else "" for text in distinct)
    tokens = frozenset(("", *missing_tokens))
    empty = np.fromiter((text in tokens for text in texts), bool, count=len(texts))
    return RawColumn(texts, codes.astype(np.int64), empty[codes], tokens)


def _number(text: str) -> float:
    number = number_of(text)
    return np.nan if number is None else number
