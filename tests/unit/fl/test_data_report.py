"""The report on a table: each count, what breaks a rule, and that the order of rows is nothing."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.column_counts import ColumnReport
from fl.contract import CategoryColumn, DataContract, Label, NumberColumn
from fl.data_report import FEW_ROWS, DataReport, report_on
from fl.errors import Violation
from fl.subgroups import Subgroup

LABEL = Label(name="sick", negative="no", positive="yes")
AGE = NumberColumn(name="age", minimum=0, maximum=120, whole=True)
STAGE = CategoryColumn(name="stage", categories=("I", "II", "III"))


def report(
    cells: dict[str, list[str]], *columns: Any, key: bytes | None = None, **contract: Any
) -> DataReport:
    rows = len(next(iter(cells.values())))
    frame = pd.DataFrame({"sick": ["no", "yes"] * (rows // 2) + ["no"] * (rows % 2), **cells})
    asked = DataContract(columns=columns, label=LABEL, **contract)
    return report_on([frame], asked, split_key=key)


def of(found: DataReport, name: str) -> ColumnReport:
    (column,) = (column for column in found.columns if column.name == name)
    return column


def test_each_way_in_which_a_number_can_be_wrong_is_counted() -> None:
    cells = ["40", " 41 ", "", "NA", "old", "40.5", "-1", "130", "1e9", "nan", "4,5"]
    found = of(report({"age": cells}, AGE), "age")
    assert (found.missing, found.not_a_number, found.not_whole) == (3, 2, 1)
    assert (found.out_of_range, found.decimal_commas) == (3, 1)
    assert found.broken == (
        Violation("age", "missing-value", 3),
        Violation("age", "not-a-number", 2),
        Violation("age", "not-whole", 1),
        Violation("age", "out-of-range", 3),
    )


@pytest.mark.parametrize("rule", ["neutral", "indicate"])
def test_what_the_contract_allows_is_counted_and_breaks_no_rule(rule: Any) -> None:
    column = AGE.model_copy(update={"missing": rule, "out_of_range": "clip"})
    found = of(report({"age": ["", "130", "7"]}, column), "age")
    assert (found.missing, found.out_of_range, found.broken) == (1, 1, ())


def test_a_name_that_is_no_category_is_counted_and_not_told() -> None:
    found = report({"stage": ["I", "", "IV", "iv", "III"]}, STAGE)
    assert of(found, "stage").broken == (
        Violation("stage", "missing-value", 1),
        Violation("stage", "unknown-category", 2),
    )
    assert "IV" not in str(asdict(found)) + str(found.warnings)


def test_a_category_that_is_also_a_token_for_an_empty_cell_is_a_category() -> None:
    column = CategoryColumn(name="allergy", categories=("None", "some"))
    assert report({"allergy": ["None", "some"]}, column).broken == ()


def test_a_token_that_is_a_number_stands_for_all_its_spellings() -> None:
    found = of(report({"age": ["-9", "-9.0", "5"]}, AGE, missing_tokens=("-9",)), "age")
    assert (found.missing, found.out_of_range) == (2, 0)


def test_classes_are_counted_and_another_one_breaks_a_rule() -> None:
    found = report({"age": ["1"] * 4, "sick": ["no", "yes", "perhaps", ""]}, AGE)
    assert (found.negative, found.positive) == (1, 1)
    assert found.broken == (
        Violation("sick", "missing-value", 1),
        Violation("sick", "unknown-label", 1),
    )


def test_rows_without_a_patient_break_a_rule_and_are_not_one_patient() -> None:
    found = report({"age": ["1", "2", "3"], "who": ["", "a", ""]}, AGE, patient="who")
    assert found.broken == (Violation("who", "missing-value", 2),)
    assert (found.repeats.patients, found.repeats.patients_of_several_rows) == (3, 0)


def test_what_is_in_no_subgroup_is_counted_and_breaks_no_rule() -> None:
    sexes = Subgroup(name="sex", groups=("f", "m"))
    bands = Subgroup(name="years", bands=(0, 40, 80))
    cells = {"age": ["1", "2", "3"], "sex": ["f", "x", ""], "years": ["80", "81", "?"]}
    found = report(cells, AGE, subgroups=(sexes, bands))
    assert (of(found, "sex").missing, of(found, "sex").unknown) == (1, 1)
    assert (of(found, "years").missing, of(found, "years").unknown) == (1, 1)
    assert found.broken == ()


def test_a_column_that_is_read_is_reported_once_though_it_makes_subgroups() -> None:
    found = report({"age": ["1", "2"]}, AGE, subgroups=(Subgroup(name="age", bands=(0, 1, 120)),))
    assert [(column.name, column.kind) for column in found.columns] == [
        ("age", "number"),
        ("sick", "label"),
    ]


def test_no_rows_break_a_rule() -> None:
    contract = DataContract(columns=(AGE,), label=LABEL)
    assert report_on([], contract).broken == (Violation("", "empty-table"),)
    empty = pd.DataFrame({"age": [], "sick": []}, dtype=str)
    assert report_on([empty], contract).broken == (Violation("", "empty-table"),)


def test_warnings_of_few_rows_one_class_and_much_that_is_missing() -> None:
    column = AGE.model_copy(update={"missing": "neutral"})
    few = report({"age": ["", "", "3"], "sick": ["no"] * 3}, column)
    assert few.broken == ()
    assert [warning.split(":")[0] for warning in few.warnings] == [
        "3 rows in all",
        "one class only",
        "age",
        "1 row",
    ]
    assert "67% of the cells are empty" in few.warnings[2]
    assert report({"age": [str(i) for i in range(FEW_ROWS)]}, column).warnings == ()


def test_decimal_commas_are_named() -> None:
    found = report({"age": ["4,5"] * 3}, AGE)
    assert "age: 3 cells with a decimal comma" in found.warnings[1]


CELLS = st.sampled_from(["", "NA", "1", "2.5", "200", "-3", "x", "4,5", "1e400"])
ROWS = st.lists(
    st.tuples(CELLS, st.sampled_from(["no", "yes", "?"]), st.sampled_from(["a", "A", "b", ""])),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 30), max_size=3), seed=st.integers(0, 99))
def test_neither_blocks_nor_the_order_of_rows_change_a_report(
    rows: list[tuple[str, str, str]], cuts: list[int], seed: int
) -> None:
    contract = DataContract(columns=(AGE,), label=LABEL, patient="who")
    frame = pd.DataFrame(rows, columns=["age", "sick", "who"], dtype=str)
    key = b"k" * 16
    whole = report_on([frame], contract, split_key=key)
    mixed = frame.iloc[np.random.default_rng(seed).permutation(len(frame))]
    edges = sorted({0, len(frame), *(min(cut, len(frame)) for cut in cuts)})
    blocks = [mixed.iloc[low:high] for low, high in pairwise(edges)]
    assert report_on(blocks, contract, split_key=key) == whole
