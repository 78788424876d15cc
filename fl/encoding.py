"""Cells to features: what a model of tables reads, by the data contract alone.

    features, violations = encoded(frame, contract)  # float32, (n, contract.features)
    feature_names(contract)    # ("age", "sex=m", "stage=I", "stage=II", "stage=III")
    feature_steps(contract)    # (0.0, 1.0, 1.0, 1.0, 1.0): how far the two values lie apart

A number is scaled so that its typical range, or else its public one, becomes -1 to 1, and lies
beyond where it lies beyond the typical range. Two categories become one feature, 1 for the second;
more become one each. An empty cell that is ``neutral`` or ``indicate`` is NaN in all of the
column's features, and ``indicate`` adds one, after them, that is 1 where the cell is empty.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl.cells import distinct, numbers
from fl.contract import CategoryColumn, DataContract, NumberColumn
from fl.errors import Violation

_LARGEST: Final = float(np.finfo(np.float32).max)
_EMPTY: Final = -1
_UNKNOWN: Final = -2


def encoded(
    frame: pd.DataFrame, contract: DataContract
) -> tuple[NDArray[np.float32], list[Violation]]:
    """Returns a frame's features, zero in columns that break a rule, and the broken rules.

    Args:
        frame: each of the contract's columns once, as text or numbers.
        contract: the columns, in the order of the features.
    """
    features = np.zeros((len(frame), contract.features), np.float32)
    tokens = empty_cells(contract)
    violations: list[Violation] = []
    start = 0
    for column in contract.columns:
        part = features[:, start : (start := start + column.features)]
        if isinstance(column, NumberColumn):
            violations += _number(frame[column.name], column, tokens, part)
        else:
            violations += _category(frame[column.name], column, tokens, part)
    return features, violations


def empty_cells(contract: DataContract) -> frozenset[str]:
    """What stands for an empty cell: the contract's tokens, and always nothing at all."""
    return frozenset((*contract.missing_tokens, ""))


def counted(name: str, masks: dict[str, NDArray[np.bool_]]) -> list[Violation]:
    """Returns a violation for each rule that some rows break."""
    return [
        Violation(name, rule, int(count))
        for rule, mask in masks.items()
        if (count := np.count_nonzero(mask))
    ]


def feature_names(contract: DataContract) -> tuple[str, ...]:
    """Returns a name for each feature, ``column``, ``column=category`` or ``column:missing``.

    Pixels have none: the names of a contract for images are empty.
    """
    names: list[str] = []
    for column in contract.columns:
        if isinstance(column, NumberColumn):
            names.append(column.name)
        else:
            names += [f"{column.name}={category}" for category in _featured(column)]
        if column.missing == "indicate":
            names.append(f"{column.name}:missing")
    return tuple(names)


def feature_steps(contract: DataContract) -> NDArray[np.float64]:
    """Returns how far apart the values of each feature that takes but two are, 0 for the others.

    Categories and indicators are 0 or 1; whole numbers of two values, such as 0 and 1, are scaled
    to -1 and 1. Shape (contract.features,).
    """
    if contract.images is not None:
        return np.zeros(contract.features)
    steps = [
        1.0 if isinstance(column, CategoryColumn) or index > 0 else _step(column)
        for column in contract.columns
        for index in range(column.features)
    ]
    return np.array(steps)


def _step(column: NumberColumn) -> float:
    is_two_valued = column.whole and column.maximum - column.minimum == 1
    low, high = column.scale
    return 2 / (high - low) if is_two_valued else 0.0


def example_frame(contract: DataContract) -> pd.DataFrame:
    """Returns one made-up row: the middle of each range, the first of each list of categories.

    Raises:
        ValueError: the contract reads images.
    """
    if contract.images is not None:
        raise ValueError("a contract for images has no columns to make a row of")
    return pd.DataFrame({column.name: [_example(column)] for column in contract.columns})


def index_of_names(
    cells: pd.Series, known: tuple[str, ...], tokens: frozenset[str]
) -> NDArray[np.int64]:
    """Returns each cell's place in a list of names, -1 for an empty cell, -2 for another name.

    A name that is also a token for empty cells is a name.
    """
    codes, names = distinct(cells)
    places = {name: place for place, name in enumerate(known)}
    lookup = [places.get(name, _EMPTY if name in tokens else _UNKNOWN) for name in names]
    return np.array(lookup, np.int64)[codes]


def _number(
    cells: pd.Series, column: NumberColumn, tokens: frozenset[str], out: NDArray[np.float32]
) -> list[Violation]:
    values, missing = numbers(cells, tokens)
    rules = {"not-a-number": np.isnan(values) & ~missing}
    if column.missing == "refuse":
        rules["missing-value"] = missing
    if column.whole:
        rules["not-whole"] = np.isfinite(values) & (values != np.trunc(values))
    if column.out_of_range == "refuse":
        rules["out-of-range"] = (values < column.minimum) | (values > column.maximum)
    if broken := counted(column.name, rules):
        return broken
    out[:, 0] = _scaled(np.clip(values, column.minimum, column.maximum), column)
    if column.missing == "indicate":
        out[:, 1] = missing
    return []


def _category(
    cells: pd.Series, column: CategoryColumn, tokens: frozenset[str], out: NDArray[np.float32]
) -> list[Violation]:
    places = index_of_names(cells, column.categories, tokens)
    rules = {"unknown-category": places == _UNKNOWN}
    if column.missing == "refuse":
        rules["missing-value"] = places == _EMPTY
    if broken := counted(column.name, rules):
        return broken
    featured = [column.categories.index(name) for name in _featured(column)]
    # Row k of the table is the features of category k; the last one, which -1 picks, of none.
    table = np.full((len(column.categories) + 1, len(featured)), np.nan, np.float32)
    table[:-1] = np.arange(len(column.categories))[:, None] == np.array(featured)
    out[:, : len(featured)] = table[places]
    if column.missing == "indicate":
        out[:, -1] = places == _EMPTY
    return []


def _featured(column: CategoryColumn) -> tuple[str, ...]:
    """The categories that have a feature of their own: the second of two, or all."""
    return column.categories[1:] if len(column.categories) == 2 else column.categories


def _scaled(values: NDArray[np.float64], column: NumberColumn) -> NDArray[np.float32]:
    low, high = column.scale
    with np.errstate(over="ignore"):  # a typical range far smaller than the range
        scaled = 2 * ((values - low) / (high - low)) - 1
    return np.clip(scaled, -_LARGEST, _LARGEST).astype(np.float32)


def _example(column: NumberColumn | CategoryColumn) -> float | str:
    if isinstance(column, CategoryColumn):
        return column.categories[0]
    middle = column.minimum / 2 + column.maximum / 2
    if not column.whole:
        return middle
    return min(max(round(middle), math.ceil(column.minimum)), math.floor(column.maximum))
