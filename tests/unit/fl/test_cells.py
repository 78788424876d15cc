"""Cells as numbers and as names: exactly what a data steward means, whatever the way there."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fl.cells import as_text, distinct, numbers

TOKENS = frozenset({"", "NA", "nan"})
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
CELL = st.one_of(
    st.floats().map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.text(alphabet="0123456789+-.eE", max_size=12),
    st.text(alphabet="019 .-+eEnaifNxX_\t\u00a0\u0663\u2003", max_size=6),
    st.sampled_from(["", "NA", " NA ", "nan", "NaN", "inf", "1e999", "-1e999", "\x1f7", "0x1"]),
)


def plainly(cell: str) -> tuple[float, bool]:
    """A cell as Python alone reads it, and whether it is empty."""
    stripped = cell.strip()
    if stripped in TOKENS:
        return math.nan, True
    return float(stripped) if NUMBER.fullmatch(stripped) else math.nan, False


@settings(max_examples=300, deadline=None)
@example(cells=["1", "nan", "inf"])
@example(cells=["1", "", " 2 "])
@given(cells=st.lists(CELL, max_size=12))
def test_numbers_are_read_as_python_reads_the_strict_ones(cells: list[str]) -> None:
    values, missing = numbers(pd.Series(cells, dtype="str"), TOKENS)
    expected = [plainly(cell) for cell in cells]
    np.testing.assert_array_equal(values, np.array([value for value, _ in expected], np.float64))
    assert missing.tolist() == [empty for _, empty in expected]


@pytest.mark.parametrize("cell", ["-999", " -999.0", "-9.99e2"])
def test_a_token_that_is_a_number_stands_for_all_its_spellings(cell: str) -> None:
    tokens = frozenset({"", "-999"})
    for cells in (pd.Series([cell, "5"]), pd.Series([float(cell), 5.0])):
        values, missing = numbers(cells, tokens)
        assert missing.tolist() == [True, False]
        np.testing.assert_array_equal(values, [np.nan, 5])


def test_names_are_numbered_and_white_space_is_no_part_of_them() -> None:
    codes, names = distinct(pd.Series(["f", " m", "f", "m"]))
    assert [names[code] for code in codes] == ["f", "m", "f", "m"]


@pytest.mark.parametrize(
    "cells",
    [
        pd.Series([1, 0, 1]),
        pd.Series([1.0, 0.0, 1.0]),
        pd.Series([True, False, True]),
        pd.Series(["1", "0", " 1"]),
        pd.Series([1.0, "0", np.int8(1)], dtype=object),
        pd.Series(["1", "0", "1"], dtype="category"),
    ],
    ids=["integers", "floats", "truth", "text", "objects", "category"],
)
def test_a_frame_s_values_have_the_names_they_would_have_in_a_file(cells: pd.Series) -> None:
    codes, names = distinct(cells)
    assert [names[code] for code in codes] == ["1", "0", "1"]


@settings(max_examples=200, deadline=None)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=10))
def test_floats_become_text_and_numbers_again_without_a_change(values: list[float]) -> None:
    text = as_text(pa.array(values, pa.float64()))
    assert text is not None
    found, missing = numbers(pd.Series(text.to_pylist(), dtype="str"), TOKENS)
    np.testing.assert_array_equal(found, values)
    assert not missing.any()


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (pa.array([1.0, None, math.nan, 0.5]), ["1", "", "", "0.5"]),
        (pa.array([0.1, 2.0], pa.float32()), ["0.1", "2"]),
        (pa.array(np.array([1.0, 0.5], np.float16)), ["1", "0.5"]),
        (pa.array([True, None]), ["1", ""]),
        (pa.array([2**63 - 1]), ["9223372036854775807"]),
        (pa.array(["a", None]).dictionary_encode(), ["a", ""]),
        (pa.array([None, None]), ["", ""]),
        (pa.array([1.5, 2.0], pa.float64()).cast(pa.decimal128(6, 2)), ["1.5", "2"]),
    ],
)
def test_typed_values_become_text(array: pa.Array, text: list[str]) -> None:
    found = as_text(array)
    assert found is not None
    assert found.to_pylist() == text


@pytest.mark.parametrize("array", [pa.array([[1]]), pa.array([{"a": 1}]), pa.array([b"x"])])
def test_what_is_neither_text_nor_number_is_no_text(array: pa.Array) -> None:
    assert as_text(array) is None
