"""What is there more than once, and what training and held-out part would share."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.contract import DataContract, Label, NumberColumn
from fl.data_report import DataReport, report_on
from fl.repeats import Repeats
from fl.split import held_out_patients, split
from fl.table import Table

KEY = b"a key of a hospital"
CONTRACT = DataContract(
    columns=(NumberColumn(name="x", minimum=0, maximum=100),), label=Label(name="y"), patient="who"
)
UNNAMED = CONTRACT.model_copy(update={"patient": None})


def report(rows: list[tuple[str, str, str]], key: bytes | None = KEY) -> DataReport:
    return report_on(
        [pd.DataFrame(rows, columns=["who", "x", "y"], dtype=str)], CONTRACT, split_key=key
    )


def is_held_out(patient: str) -> bool:
    digest = np.frombuffer(hashlib.sha256(patient.encode()).digest(), np.uint8)
    return bool(held_out_patients(digest.reshape(1, 32), key=KEY)[0])


def patients(*, held_out: bool) -> Any:
    return (name for i in range(10_000) if is_held_out(name := f"p{i}") == held_out)


def test_rows_are_equal_by_value_and_not_by_how_it_is_written() -> None:
    found = report([("a", "1", "0"), ("a", " 1.0", "0"), ("a", "1e0", "0"), ("a", "-0", "1")])
    assert found.repeats.equal_rows == 2


def test_equal_rows_of_one_patient_leak_nothing() -> None:
    name = next(patients(held_out=True))
    found = report([(name, "1", "0")] * 3).repeats
    assert found == Repeats(
        equal_rows=2,
        patients=1,
        patients_of_several_rows=1,
        patients_spelled_apart=0,
        held_out_rows_also_trained_on=0,
        patients_on_both_sides=0,
    )


def test_equal_rows_under_two_patients_on_both_sides_leak() -> None:
    out, trained = next(patients(held_out=True)), next(patients(held_out=False))
    found = report([(out, "1", "0"), (trained, "1", "0"), (trained, "2", "0")])
    assert found.repeats.rows_of_several_patients == 2
    assert found.repeats.held_out_rows_also_trained_on == 1
    assert found.repeats.equal_rows == 0
    (warning,) = (w for w in found.warnings if "another patient" in w)
    assert "1 held-out row equal to one that is trained on" in warning


def test_equal_rows_under_two_patients_on_one_side_do_not_leak() -> None:
    one, other = (name for name, _ in zip(patients(held_out=True), range(2), strict=False))
    assert report([(one, "1", "0"), (other, "1", "0")]).repeats.held_out_rows_also_trained_on == 0


def test_a_patient_in_two_spellings_is_found_on_both_sides() -> None:
    name = next(n for n in patients(held_out=True) if not is_held_out(n.upper()))
    rows = [(name, "1", "0"), (name.upper(), "2", "0"), ("q", "3", "1"), ("q", "4", "1")]
    found = report(rows)
    assert (found.repeats.patients, found.repeats.patients_spelled_apart) == (3, 1)
    assert found.repeats.patients_on_both_sides == 1
    assert "1 of them trained on and held out" in found.warnings[-1]
    without_key = report(rows, key=None)
    assert without_key.repeats.patients_on_both_sides is None
    assert without_key.repeats.held_out_rows_also_trained_on is None


def test_spellings_differ_in_case_width_and_inner_white_space() -> None:
    found = report(
        [(who, str(i), "0") for i, who in enumerate(("P 7", "p7", "Ｐ7", " P 7 ", "P8"))]
    )
    assert (found.repeats.patients, found.repeats.patients_spelled_apart) == (4, 1)


def test_without_patients_equal_rows_are_counted_and_nothing_is_said_of_patients() -> None:
    frame = pd.DataFrame({"x": ["1", "1", "2"], "y": ["0", "0", "1"]}, dtype=str)
    assert report_on([frame], UNNAMED, split_key=KEY).repeats == Repeats(equal_rows=1)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcAB"), st.sampled_from("12"), st.sampled_from("01")),
        min_size=1,
        max_size=20,
    )
)
def test_the_counts_are_those_of_the_plain_definitions(rows: list[tuple[str, str, str]]) -> None:
    found = report(rows).repeats
    by_content: dict[tuple[str, str], set[str]] = {}
    for who, x, y in rows:
        by_content.setdefault((x, y), set()).add(who)
    shared = [(who, x, y) for who, x, y in rows if len(by_content[x, y]) > 1]
    leaks = [
        1
        for who, x, y in rows
        if is_held_out(who) and any(not is_held_out(other) for other in by_content[x, y])
    ]
    names = {who for who, _, _ in rows}
    folded = {name.casefold() for name in names}
    apart = [f for f in folded if {f, f.upper()} <= names]
    both = [f for f in apart if is_held_out(f) != is_held_out(f.upper())]
    assert found.equal_rows == len(rows) - len(set(rows))
    assert found.rows_of_several_patients == len(shared)
    assert found.held_out_rows_also_trained_on == len(leaks)
    assert found.patients == len(names)
    assert found.patients_spelled_apart == len(apart)
    assert found.patients_on_both_sides == len(both)


def test_the_side_of_a_patient_is_the_one_that_the_split_takes() -> None:
    names = [f"p{i}" for i in range(50)]
    digests = b"".join(hashlib.sha256(name.encode()).digest() for name in names)
    table = Table(
        np.zeros((50, 1), np.float32),
        np.zeros(50, np.float32),
        np.arange(50),
        np.frombuffer(digests, np.uint8).reshape(50, 32),
    )
    held_out = split(table, key=KEY).held_out.patient_digests
    assert held_out is not None
    expected = [hashlib.sha256(n.encode()).digest() for n in names if is_held_out(n)]
    assert {row.tobytes() for row in held_out} == set(expected)
