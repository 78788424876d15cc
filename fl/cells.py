"""A column's cells, read as numbers or as names, exactly as a data steward means them.

    values, missing = numbers(frame["age"], tokens)
    codes, names = distinct(frame["sex"])  # names[codes[i]] is the name in row i

Cells come as text, from a file, or as what a data frame holds. A number is digits with a sign, a
point and an exponent, as ``_NUMBER`` says, rounded correctly; ``nan``, ``inf``, ``1_000`` and
digits of other scripts are none.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# Python's float() reads more than a data steward means: "nan", "1_000", digits of other scripts.
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE_BELOW: Final = 2.0**53  # a float of this size or more does not tell whole numbers apart


def numbers(
    cells: pd.Series, tokens: frozenset[str]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns a column's numbers, and where a cell is empty.

    Args:
        cells: text or numbers, n of them.
        tokens: what stands for an empty cell; one that is a number stands for all its spellings.

    Returns:
        float64, shape (n,), NaN where there is no number, infinite where one is too large for a
        float; bool, shape (n,).
    """
    if pd.api.types.is_numeric_dtype(cells):
        missing = cells.isna().to_numpy(bool)
        values = cells.to_numpy(np.float64, na_value=np.nan, copy=True)
        values[np.isinf(values)] = np.nan
    else:
        values, missing = _read(_text(cells), tokens)
    if spelled := [float(token) for token in tokens if _NUMBER.fullmatch(token)]:
        missing = missing | np.isin(values, spelled)
    values[missing] = np.nan
    return values, missing


def distinct(cells: pd.Series) -> tuple[NDArray[np.int64], list[str]]:
    """Returns each cell's number, and the text that each number stands for, without white space.

    The numbers are by first appearance; cells that differ in white space have numbers of their own.
    """
    encoded = _text(cells).dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, [name.strip() for name in encoded.dictionary.to_pylist()]


def number_of(text: str) -> float | None:
    """Returns the number that a text is; None for what is none."""
    return float(text) if _NUMBER.fullmatch(text) else None


def as_text(array: pa.Array) -> pa.Array | None:
    """Returns typed values as text, the empty text for null; None for what is no text or number.

    Whole numbers have no decimal part, so that a label stored as ``1.0`` is ``1``; true is ``1``.
    """
    kind = array.type
    if pa.types.is_dictionary(kind):
        return as_text(array.dictionary_decode())
    if pa.types.is_boolean(kind):
        array = array.cast(pa.int8())
    elif pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        return _floats_as_text(array)
    elif not (pa.types.is_integer(kind) or _is_text(kind) or pa.types.is_null(kind)):
        return None
    return pc.fill_null(array.cast(pa.large_string()), "")


def _read(text: pa.Array, tokens: frozenset[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The quick way first: Arrow's cast is correctly rounded, and fails as a whole."""
    missing = np.zeros(len(text), bool)
    try:
        values = _cast(text)
    except pa.ArrowInvalid:
        missing, values = _read_around(text, tokens)
    # The cast takes "nan" and "inf" for numbers, and leaves out what Arrow's white space and
    # digits are not: these cells are read one by one.
    doubtful = np.flatnonzero(~np.isfinite(values) & ~missing)
    for row, cell in zip(doubtful, text.take(pa.array(doubtful)).to_pylist(), strict=True):
        stripped = cell.strip()
        missing[row] = stripped in tokens
        number = number_of(stripped)
        values[row] = np.nan if number is None else number
    return values, missing


def _read_around(
    text: pa.Array, tokens: frozenset[str]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Reads a column in which some cells are empty or no number; NaN where a cell is."""
    null, empty = pa.scalar(None, pa.large_string()), pa.array(sorted(tokens), pa.large_string())
    missing = pc.is_in(text, value_set=empty)
    try:
        values = _cast(pc.if_else(missing, null, text))
    except pa.ArrowInvalid:
        text = pc.ascii_trim_whitespace(text)
        missing = pc.is_in(text, value_set=empty)
        plain = pc.match_substring_regex(text, rf"\A(?:{_NUMBER.pattern})\z")
        values = _cast(pc.if_else(pc.and_not(plain, missing), text, null))
    return missing.to_numpy(zero_copy_only=False).copy(), values


def _cast(text: pa.Array) -> NDArray[np.float64]:
    values = text.cast(pa.float64())
    return np.array(values.to_numpy(zero_copy_only=False), np.float64)


def _text(cells: pd.Series) -> pa.Array:
    """A column as large strings without null."""
    if isinstance(cells.dtype, pd.StringDtype):
        array = pa.array(cells, pa.large_string(), from_pandas=True)
        whole = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        return pc.fill_null(whole, "") if whole.null_count else whole
    cells = cells.astype(object)
    spelled = [_spelling(value) for value in cells.where(cells.notna(), "")]
    return pa.array(spelled, pa.large_string())


def _spelling(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value)) if abs(float(value)) < _WHOLE_BELOW else str(value)
    return str(value)


def _floats_as_text(array: pa.Array) -> pa.Array:
    if pa.types.is_float16(array.type) or pa.types.is_decimal(array.type):
        array = array.cast(pa.float32() if pa.types.is_float16(array.type) else pa.float64())
    values = array.to_numpy(zero_copy_only=False).astype(np.float64)
    whole = (values == np.trunc(values)) & (np.abs(values) < _WHOLE_BELOW)
    text = array.cast(pa.large_string())
    if whole.any():
        integers = pa.array(np.where(whole, values, 0).astype(np.int64)).cast(pa.large_string())
        text = pc.if_else(pa.array(whole), integers, text)
    # A float that is not a number is how most tools write an empty cell.
    return pc.if_else(pa.array(np.isnan(values)), "", pc.fill_null(text, ""))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
