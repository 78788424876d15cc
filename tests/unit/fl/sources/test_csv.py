"""CSV in blocks: a block's size changes nothing, and Python's own reader reads the same."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fl.contract import CategoryColumn, DataContract, Label, NumberColumn
from fl.data import load_table
from fl.errors import ContractViolation
from fl.sources import blocks
from fl.subgroups import Subgroup
from fl.table import Table

CONTRACT = DataContract(
    columns=(
        NumberColumn(name="x", minimum=-10, maximum=10, missing="neutral"),
        CategoryColumn(name="c", categories=("a", "b,b", 'q"q'), missing="indicate"),
    ),
    label=Label(name="y"),
    patient="who",
    subgroups=(Subgroup(name="c", groups=("a", "b,b")), Subgroup(name="x", bands=(-10, 0, 10))),
)
HEADER = ["x", "c", "y", "who", "note"]
SMALL = 64  # bytes: smaller than some rows

tmp_settings = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def outcome(path: Path, **size: int) -> object:
    """All that a table is, or what it breaks, in values that can be compared."""
    try:
        table = load_table(path, CONTRACT, **size)
    except ContractViolation as violation:
        return sorted((v.column, v.rule, v.count) for v in violation.violations)
    arrays = (table.features, table.labels, table.patients, table.patient_digests, table.groups)
    return [None if array is None else (array.dtype.str, array.tobytes()) for array in arrays]


CELLS = st.fixed_dictionaries(
    {
        "x": st.one_of(st.floats(-11, 11).map(repr), st.sampled_from(["", " 1", "+.5", "nan"])),
        "c": st.sampled_from(["a", "b,b", 'q"q', "", " a "]),
        "y": st.sampled_from(["0", "1", " 1"]),
        "who": st.sampled_from(["p1", "p2", "Ü 3", " p1"]),
        "note": st.text(alphabet='ab,"\n é', max_size=10),
    }
)


def written(rows: list[dict[str, str]], *, line_end: str) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, lineterminator=line_end, quoting=csv.QUOTE_MINIMAL)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("block_bytes", range(32, 48))
def test_a_line_end_may_be_cut_by_a_block(tmp_path: Path, block_bytes: int) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"x,c,y,who,note\r\n1,a,0,p1,\r\n2,a,1,p2,\r\n")
    assert outcome(path, block_bytes=block_bytes) == outcome(path)
    assert outcome(path) != [("", "not-a-csv", 1)]


@tmp_settings
@given(rows=st.lists(CELLS, min_size=1, max_size=20), line_end=st.sampled_from(["\n", "\r\n"]))
def test_the_size_of_blocks_changes_nothing(
    tmp_path: Path, rows: list[dict[str, str]], line_end: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(written(rows, line_end=line_end).encode())
    whole = outcome(path)
    assert whole != [("", "not-a-csv", 1)]
    assert outcome(path, block_bytes=200) == whole


@tmp_settings
@given(rows=st.lists(CELLS, min_size=1, max_size=20), line_end=st.sampled_from(["\n", "\r\n"]))
def test_blocks_hold_what_python_s_own_reader_reads(
    tmp_path: Path, rows: list[dict[str, str]], line_end: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(written(rows, line_end=line_end).encode())
    found = [
        row for frame in blocks(path, CONTRACT, block_bytes=200) for row in frame.values.tolist()
    ]
    names = [HEADER.index(name) for name in CONTRACT.names]
    expected = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))[1:]
    assert found == [[row[index] for index in names] for row in expected]


@tmp_settings
@example(content=b'x,c,y,who,note\n1,a,1,p,"open')
@example(content=b'x,c,y,who,note\n1,a,1,"p,open\n1,a,1,p,q\n')
@given(content=st.binary(max_size=60).map(lambda end: b"x,c,y,who,note\n1,a,1,p,q\n" + end))
def test_whatever_the_bytes_a_table_or_a_violation_comes_of_them(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    whole = outcome(path)
    if not _is_text(content) or (content.count(b'"') == 1 and b',"' in content):
        assert whole == [("", "not-a-csv", 1)]
    assert outcome(path) == whole


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def test_an_unread_column_is_held_to_the_format_too(tmp_path: Path) -> None:
    good = "x,c,y,who,note\n" + "1,a,1,p,q\n" * 50
    for bad in (b"1,a,1,p,\xff\n", b"1,a,1,p,\0\n", b"1,a,1,p,q,r\n", b'1,a,1,p,"q\n'):
        path = tmp_path / "table.csv"
        path.write_bytes(good.encode() + bad)
        for size in (SMALL, 1 << 20):
            assert outcome(path, block_bytes=size) == [("", "not-a-csv", 1)]


def test_rows_that_fill_many_blocks_are_all_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [
        f"{rng.uniform(-10, 10)!r},{'ab'[i % 2] if i % 2 == 0 else 'a'},{i % 2},p{i // 3},n"
        for i in range(2000)
    ]
    path = tmp_path / "table.csv"
    path.write_text("\n".join([",".join(HEADER), *rows]), encoding="utf-8")
    table = load_table(path, CONTRACT, block_bytes=1000)
    assert isinstance(table, Table)
    np.testing.assert_array_equal(table.labels, np.arange(2000) % 2)
    assert table.patients is not None
    np.testing.assert_array_equal(table.patients, np.arange(2000) // 3)
    expected = [float(row.split(",")[0]) / 10 for row in rows]
    np.testing.assert_allclose(table.features[:, 0], expected, atol=1e-6)


def test_records_know_their_groups(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    lines = ["-10,a", '0,"b,b"', '10,"q""q"', ",", "-0.1,a"]
    path.write_text("x,c,y,who\n" + "".join(f"{line},1,p\n" for line in lines))
    table = load_table(path, CONTRACT)
    assert table.groups is not None
    assert table.groups.dtype == np.int8
    assert table.groups.tolist() == [[0, 0], [1, 1], [-1, 1], [-1, -1], [0, 0]]
    assert math.isnan(table.features[3, 0])


@pytest.mark.parametrize("cell", ["text", "-11", "", "1e999"])
def test_a_subgroup_s_cells_break_no_rule(tmp_path: Path, cell: str) -> None:
    contract = DataContract(
        columns=CONTRACT.columns[:1],
        label=CONTRACT.label,
        subgroups=(
            Subgroup(name="age", bands=(0, 40, 80)),
            Subgroup(name="sex", groups=("f", "m")),
        ),
    )
    path = tmp_path / "table.csv"
    path.write_text(f"x,y,age,sex\n1,1,{cell},{cell}\n1,0,40,m\n")
    table = load_table(path, contract)
    assert table.groups is not None
    assert table.groups.tolist() == [[-1, -1], [1, 1]]
    path.write_text("x,y,age\n1,1,5\n")
    with pytest.raises(ContractViolation, match=r"^sex: missing-column \(1\)$"):
        load_table(path, contract)


def test_a_row_that_no_block_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("x,c,y,who,note\n1,a,1,p,q\n" + f"1,a,1,p,{'q' * 500}\n")
    assert outcome(path, block_bytes=100) == [("", "not-a-csv", 1)]
    path.write_text(f"x,c,y,who,{'n' * 500}\n1,a,1,p,q\n")
    assert outcome(path, block_bytes=100) in (
        [("", "not-a-csv", 1)],
        [("", "missing-column", 1)],
    )
