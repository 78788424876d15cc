"""Parquet files and NumPy archives: the same rows are the same table, whatever their format."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fl.contract import CategoryColumn, DataContract, Label, NumberColumn
from fl.data import load_table
from fl.errors import ContractViolation
from fl.subgroups import Subgroup

CONTRACT = DataContract(
    columns=(
        NumberColumn(name="x", minimum=-10, maximum=10, missing="indicate"),
        NumberColumn(name="n", minimum=0, maximum=9, whole=True),
        CategoryColumn(name="c", categories=("a", "b", "c"), missing="neutral"),
    ),
    label=Label(name="y"),
    patient="who",
    subgroups=(Subgroup(name="c", groups=("a", "b")),),
)
ROWS = 40_000  # more than one block
RNG = np.random.default_rng(5)
X = RNG.uniform(-10, 10, ROWS)
COLUMNS: dict[str, np.ndarray] = {
    "x": np.where(RNG.random(ROWS) < 0.1, np.nan, X),
    "n": RNG.integers(0, 10, ROWS),
    "c": RNG.choice(["a", "b", "c", ""], ROWS),
    "y": RNG.integers(0, 2, ROWS).astype(float),
    "who": RNG.integers(0, ROWS // 3, ROWS),
    "more": np.zeros(ROWS),
}


def as_csv(path: Path, columns: dict[str, np.ndarray]) -> Path:
    frame = pd.DataFrame(columns)
    frame["y"] = frame["y"].astype(int)
    frame.to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def as_parquet(path: Path, columns: dict[str, np.ndarray]) -> Path:
    table = pa.table(columns)
    table = table.set_column(2, "c", table.column("c").dictionary_encode())
    pq.write_table(table, path.with_suffix(".parquet"), row_group_size=7000)
    return path.with_suffix(".parquet")


def as_npz(path: Path, columns: dict[str, np.ndarray]) -> Path:
    np.savez_compressed(path.with_suffix(".npz"), **columns)
    return path.with_suffix(".npz")


WRITERS = [as_csv, as_parquet, as_npz]
OTHERS = [as_parquet, as_npz]


def violations_of(path: Path) -> set[tuple[str, str, int]]:
    with pytest.raises(ContractViolation) as caught:
        load_table(path, CONTRACT)
    assert caught.value.__context__ is None
    return {(v.column, v.rule, v.count) for v in caught.value.violations}


def test_the_same_rows_are_the_same_table(tmp_path: Path) -> None:
    csv, *others = (load_table(write(tmp_path / "t", COLUMNS), CONTRACT) for write in WRITERS)
    assert len(csv) == ROWS
    for table in others:
        for name in ("features", "labels", "patients", "patient_digests", "groups"):
            one, other = getattr(csv, name), getattr(table, name)
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_faults_are_the_same_violations(
    tmp_path: Path, write: Callable[[Path, dict[str, np.ndarray]], Path]
) -> None:
    faulty = {name: values.copy() for name, values in COLUMNS.items()}
    faulty["x"][[3, 30_000]] = [11, np.inf]
    faulty["n"] = faulty["n"].astype(float)
    faulty["n"][[5, 20_000]] = [0.5, np.nan]
    faulty["c"][6], faulty["y"][7] = "d", 2
    expected = {
        *(("x", "out-of-range", 1), ("x", "not-a-number", 1), ("n", "not-whole", 1)),
        *(("n", "missing-value", 1), ("c", "unknown-category", 1), ("y", "unknown-label", 1)),
    }
    assert violations_of(write(tmp_path / "t", faulty)) == expected


@pytest.mark.parametrize("write", OTHERS)
def test_a_column_that_is_not_there_is_named(
    tmp_path: Path, write: Callable[[Path, dict[str, np.ndarray]], Path]
) -> None:
    columns = {name: values for name, values in COLUMNS.items() if name != "y"}
    assert violations_of(write(tmp_path / "t", columns)) == {("y", "missing-column", 1)}


@pytest.mark.parametrize("write", OTHERS)
def test_no_row_is_an_empty_table(
    tmp_path: Path, write: Callable[[Path, dict[str, np.ndarray]], Path]
) -> None:
    columns = {name: values[:0] for name, values in COLUMNS.items()}
    assert violations_of(write(tmp_path / "t", columns)) == {("", "empty-table", 1)}


@pytest.mark.parametrize(("suffix", "rule"), [("parquet", "not-a-parquet"), ("npz", "not-an-npz")])
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str, rule: str) -> None:
    for write in OTHERS:
        path = write(tmp_path / "t", {name: values[:500] for name, values in COLUMNS.items()})
        if path.suffix != f".{suffix}":
            continue
        content = path.read_bytes()
        for damaged in (b"", b"x,y\n1,2\n", content[: len(content) // 2], content[:-8]):
            path.write_bytes(damaged)
            assert violations_of(path) == {("", rule, 1)}


def test_a_repeated_column_of_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    arrays = [pa.array([str(v) for v in values[:3]]) for values in COLUMNS.values()]
    pq.write_table(pa.table([*arrays, arrays[0]], names=[*COLUMNS, "x"]), path)
    assert violations_of(path) == {("x", "repeated-column", 1)}


@pytest.mark.parametrize(
    "values",
    [np.array([None, "1", "2"], object), np.zeros((3, 2)), np.array(["2026-01-01"] * 3, "M8[D]")],
    ids=["pickled objects", "two dimensions", "dates"],
)
def test_what_is_no_column_of_text_or_numbers_is_refused(tmp_path: Path, values: Any) -> None:
    columns = {name: array[:3] for name, array in COLUMNS.items()} | {"x": values}
    assert violations_of(as_npz(tmp_path / "t", columns)) == {("x", "unreadable-column", 1)}


def test_arrays_of_several_lengths_are_refused(tmp_path: Path) -> None:
    columns = COLUMNS | {"x": X[:-1]}
    assert violations_of(as_npz(tmp_path / "t", columns)) == {("", "uneven-arrays", 1)}


def test_an_array_that_ends_before_its_header_says_is_refused(tmp_path: Path) -> None:
    path = as_npz(tmp_path / "t", {name: values[:9] for name, values in COLUMNS.items()})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    whole = io.BytesIO()
    np.save(whole, COLUMNS["x"][:9])
    members["x.npy"] = whole.getvalue()[:-4]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert violations_of(path) == {("", "not-an-npz", 1)}


def test_unused_columns_of_any_type_are_ignored(tmp_path: Path) -> None:
    columns = {name: values[:3] for name, values in COLUMNS.items()}
    table = pa.table(columns | {"dates": pa.array([[1], [2], [3]])})
    pq.write_table(table, tmp_path / "t.parquet")
    assert len(load_table(tmp_path, CONTRACT)) == 3
