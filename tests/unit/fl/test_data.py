"""The data contract at a hospital's own table: what is read, what is refused, what never leaks."""

from __future__ import annotations

import hashlib
import math
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fl.contract import DataContract, Label, NumberColumn
from fl.data import features_of, load_table
from fl.errors import ContractViolation, Violation

CONTRACT = DataContract(
    columns=(
        NumberColumn(name="age", minimum=0, maximum=120, unit="a"),
        NumberColumn(name="ratio", minimum=-0.1, maximum=0.3),
    ),
    label=Label(name="malignant", negative="no", positive="yes"),
)
ROWS = ["0,-0.1,no", "120,0.3,yes", "60,0.1,no"]

tmp_settings = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def csv(rows: list[str], *, header: str = "age,ratio,malignant") -> str:
    return "\n".join([header, *rows]) + "\n"


def write(folder: Path, content: str | bytes, *, name: str = "patients.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def violations_of(path: Path) -> set[tuple[str, str, int]]:
    with pytest.raises(ContractViolation) as caught:
        load_table(path, CONTRACT)
    return {(v.column, v.rule, v.count) for v in caught.value.violations}


def test_a_good_table_is_scaled_by_the_public_ranges(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, csv(ROWS)), CONTRACT)
    np.testing.assert_allclose(table.features, [[-1, -1], [1, 1], [0, 0]], atol=1e-7)
    np.testing.assert_array_equal(table.labels, [0, 1, 0])
    assert table.features.dtype == table.labels.dtype == np.float32
    assert len(table) == 3
    assert not table.one_class_only


def test_one_class_alone_is_allowed_and_visible(tmp_path: Path) -> None:
    assert load_table(write(tmp_path, csv(["1,0,no", "2,0,no"])), CONTRACT).one_class_only


@pytest.mark.parametrize(
    "content",
    [
        csv(ROWS).encode("utf-8-sig"),
        csv(ROWS).replace("\n", "\r\n"),
        csv(["0,-0.1,no,é", "1.2e2,.3,yes,", "6e1,0.1,no,x"], header="age,ratio,malignant,note"),
        csv(['" 0 ", -1e-1 ,no', "+120.,0.3, yes", "\n60,0.1,no"], header=" age ,ratio,malignant"),
        csv(["no,-0.1,0", "yes,0.3,120", "no,0.1,60"], header="malignant,ratio,age"),
    ],
    ids=["byte order mark", "line ends", "extra column", "white space", "order"],
)
def test_harmless_differences_are_tolerated(tmp_path: Path, content: str | bytes) -> None:
    table = load_table(write(tmp_path, content), CONTRACT)
    np.testing.assert_allclose(table.features, [[-1, -1], [1, 1], [0, 0]], atol=1e-7)
    np.testing.assert_array_equal(table.labels, [0, 1, 0])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", {("", "empty-table", 1)}),
        ("\n\n", {("", "empty-table", 1)}),
        (csv([]), {("", "empty-table", 1)}),
        (b"age,ratio,malignant\n1,0,\xff\n", {("", "not-a-csv", 1)}),
        (b"age,ratio,malignant\n1\x00,0,no\n", {("", "not-a-csv", 1)}),
        (csv(['1,0,"no']), {("", "not-a-csv", 1)}),
        (csv(["1,0,no,more"]), {("", "not-a-csv", 1)}),
        (csv(["1,no"], header="age,malignant"), {("ratio", "missing-column", 1)}),
        (
            csv(["1;0;no"], header="age;ratio;malignant"),
            {(n, "missing-column", 1) for n in ("age", "ratio", "malignant")},
        ),
        (
            csv(["1,2,0,no"], header="age,age,ratio,malignant"),
            {("age", "repeated-column", 1)},
        ),
        (csv(["1", *ROWS, "1,0"]), {("", "short-row", 2)}),
        (csv(["1", *ROWS, ",0,no"]), {("", "short-row", 1), ("age", "missing-value", 1)}),
        (csv(["1"]), {("", "short-row", 1)}),
        (csv([",0,no", "1,0,no,more"]), {("", "not-a-csv", 1)}),
    ],
)
def test_a_table_of_another_shape_is_refused(
    tmp_path: Path, content: str | bytes, expected: set[tuple[str, str, int]]
) -> None:
    assert violations_of(write(tmp_path, content)) == expected


def test_every_broken_rule_is_counted_at_once(tmp_path: Path) -> None:
    rows = [",0,no", "  ,0,maybe", "abc,0,", "121,0.31,yes", "-1,0.2,NO", "1e999,-inf,no", "5,0,no"]
    path = write(tmp_path, csv(rows))
    assert violations_of(path) == {
        ("age", "missing-value", 2),
        ("age", "not-a-number", 1),
        ("age", "out-of-range", 3),
        ("ratio", "out-of-range", 1),
        ("ratio", "not-a-number", 1),
        ("malignant", "missing-value", 1),
        ("malignant", "unknown-label", 2),
    }


@pytest.mark.parametrize("cell", ["inf", "Infinity", "1_0", "0x1", "٣", "1 0", "1;5"])
def test_what_only_a_parser_calls_a_number_is_refused(tmp_path: Path, cell: str) -> None:
    assert violations_of(write(tmp_path, csv([f"{cell},0,no"]))) == {("age", "not-a-number", 1)}


def test_the_message_names_column_rule_and_count(tmp_path: Path) -> None:
    with pytest.raises(ContractViolation, match=r"^age: out-of-range \(2\)$"):
        load_table(write(tmp_path, csv(["777,0,no", "888,0,no"])), CONTRACT)


def test_a_folder_must_hold_exactly_one_data_file(tmp_path: Path) -> None:
    assert violations_of(tmp_path) == {("", "no-such-file", 1)}
    assert violations_of(tmp_path / "nowhere.csv") == {("", "no-such-file", 1)}
    write(tmp_path, csv(ROWS), name="a.CSV")
    write(tmp_path, "not data", name="README.txt")
    write(tmp_path, "left by an editor", name=".a.csv")
    assert len(load_table(tmp_path, CONTRACT)) == 3
    write(tmp_path, csv(ROWS), name="b.parquet")
    assert violations_of(tmp_path) == {("", "several-files", 2)}


def test_a_file_the_system_refuses_is_named_so(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert violations_of(tmp_path) == {("", "unreadable-file", 1)}


PLANTS = st.sampled_from(["header", "cell", "long row", "open quote", "bytes", "file name"])


@tmp_settings
@given(place=PLANTS, row=st.integers(0, 2), column=st.integers(0, 2), token=st.binary(max_size=8))
def test_a_secret_in_the_table_shows_in_no_error(
    tmp_path: Path, place: str, row: int, column: int, token: bytes
) -> None:
    secret = "Secret" + hashlib.sha256(token).hexdigest()
    rows = [line.split(",") for line in ROWS]
    header, name = "age,ratio,malignant", "patients.csv"
    if place == "header":
        header = header.replace("ratio", secret)
    elif place == "file name":
        rows[row][column], name = "", secret + ".csv"
    else:
        rows[row][column] = {"long row": f"{secret},1", "open quote": f'"{secret}'}.get(
            place, secret
        )
    content = csv([",".join(cells) for cells in rows], header=header).encode()
    if place == "bytes":
        content = content.replace(secret.encode(), secret.encode() + b"\xff")
    path = write(tmp_path, content, name=name)
    with pytest.raises(ContractViolation) as caught:
        load_table(path, CONTRACT)
    path.unlink()
    violation = caught.value
    assert secret not in "".join(traceback.format_exception(violation)) + repr(violation)
    assert violation.__cause__ is None
    assert violation.__context__ is None
    # The frame that raises holds no row either, for tools that print local variables.
    frame = list(traceback.walk_tb(violation.__traceback__))[-1][0]
    assert frame.f_code.co_name == "load_table"
    assert secret not in repr([value for name, value in frame.f_locals.items() if name != "path"])


FINITE = st.floats(allow_nan=False, allow_infinity=False)
LIMITS = st.floats(-1e15, 1e15)  # what a contract may name as a range


@settings(max_examples=100, deadline=None)
@example(bounds=(-1e15, 1e15), shares=[0.0])
@example(bounds=(0.0, 5e-324), shares=[])
@given(bounds=st.tuples(LIMITS, LIMITS).filter(lambda b: b[0] < b[1]), shares=st.lists(FINITE))
def test_scaled_values_stay_within_one(bounds: tuple[float, float], shares: list[float]) -> None:
    low, high = bounds
    raw = np.clip([low, high, *shares], low, high)
    contract = DataContract(
        columns=(NumberColumn(name="x", minimum=low, maximum=high),), label=Label(name="y")
    )
    scaled = features_of(pd.DataFrame({"x": raw}), contract)[:, 0]
    assert np.all(np.abs(scaled) <= 1)
    assert np.all(np.diff(scaled[np.argsort(raw)]) >= 0)
    assert math.isclose(scaled[0], -1, abs_tol=1e-6)
    assert math.isclose(scaled[1], 1, abs_tol=1e-6)


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(0, 120), min_size=1, max_size=20))
def test_text_and_numbers_read_alike(values: list[float]) -> None:
    contract = DataContract(columns=CONTRACT.columns[:1], label=CONTRACT.label)
    as_numbers = features_of(pd.DataFrame({"age": values}), contract)
    as_text = features_of(pd.DataFrame({"age": [repr(v) for v in values]}), contract)
    np.testing.assert_array_equal(as_numbers, as_text)


def test_frames_are_held_to_the_contract_too() -> None:
    frame = pd.DataFrame({"age": [1.0, math.nan, math.inf, 400.0], "ratio": ["0", None, "x", "1"]})
    with pytest.raises(ContractViolation) as caught:
        features_of(frame, CONTRACT)
    assert set(caught.value.violations) == {
        Violation(column, rule, 1)
        for column in ("age", "ratio")
        for rule in ("missing-value", "not-a-number", "out-of-range")
    }
