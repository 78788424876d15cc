"""What is proposed for a column, and that the draft's file reads as it was meant."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deployments.contract_draft import Draft, draft_yaml, outwards, propose, reason_to_leave_out
from deployments.contract_look import ColumnLook
from deployments.known_columns import KNOWN, known_column
from fl.contract import MISSING_TOKENS, CategoryColumn, DataContract, Label, NumberColumn
from fl.raw_column import raw_column


def looked(name: str, cells: list[str]) -> ColumnLook:
    found = ColumnLook(name)
    found.take(raw_column(pd.Series(cells, dtype=str), MISSING_TOKENS))
    return found


@given(
    st.floats(-1e9, 1e9, allow_nan=False, allow_subnormal=False),
    st.floats(-1e9, 1e9, allow_nan=False, allow_subnormal=False),
)
def test_a_range_rounded_outwards_holds_the_data(one: float, other: float) -> None:
    low, high = sorted((one, other))
    minimum, maximum = outwards(low, high)
    assert minimum <= low <= high <= maximum
    assert minimum < maximum
    assert (low < 0) or (minimum >= 0)
    NumberColumn(name="x", minimum=minimum, maximum=maximum)
    if high - low > 1e-6 * max(abs(low), abs(high)):
        assert maximum - minimum <= 1.6 * (high - low) + 1e-9


@pytest.mark.parametrize(
    ("data", "expected"), [((43.79, 188.5), (20, 220)), ((0, 10), (0, 11)), ((7, 7), (6, 8))]
)
def test_ranges_are_round(data: tuple[float, float], expected: tuple[float, float]) -> None:
    assert outwards(*data) == expected


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2.5", ""], "number"),
        (["1"] * 19 + ["?x"], "number"),
        (["a", "b", "NA"], "category"),
        ([f"name {i}" for i in range(30)], "text"),
        (["", "NA", "?"], "empty"),
    ],
)
def test_the_kind_of_a_column(cells: list[str], kind: str) -> None:
    assert looked("x", cells).kind == kind


def test_what_tells_who_somebody_is_is_left_out() -> None:
    assert reason_to_leave_out(looked("Last Name", ["a", "b"]))
    assert reason_to_leave_out(looked("zip", ["1010", "1020"]))
    assert not reason_to_leave_out(looked("age", ["1", "2"]))


def test_without_public_data_no_value_of_a_column_is_proposed() -> None:
    for cells in (["7.25", "9.5"], ["left", "right"], ["5", "6"]):
        assert propose(looked("x", cells), public=False).column is None
        assert propose(looked("x", cells), public=True).column is not None


def test_usual_names_are_proposed_whatever_of_them_is_there() -> None:
    for cells in (["no", "yes"], ["yes", "yes"]):
        column = propose(looked("smoker", cells), public=False).column
        assert isinstance(column, CategoryColumn)
        assert column.categories == ("no", "yes")
    sex = propose(looked("Gender", ["female"]), public=False).column
    assert isinstance(sex, CategoryColumn)
    assert sex.categories == ("female", "male")


@pytest.mark.parametrize("name", ["Systolic BP", "systolic_bp", "SYSTOLIC.BP"])
def test_a_usual_column_is_known_however_it_is_written(name: str) -> None:
    known = known_column(name)
    assert known is not None
    assert known.unit == "mmHg"


def test_the_usual_columns_are_columns_of_a_contract_and_have_sources() -> None:
    names = [name for known in KNOWN for name in known.names]
    assert len(names) == len(set(names))
    for known in KNOWN:
        NumberColumn(
            name=known.names[0],
            minimum=known.minimum,
            maximum=known.maximum,
            unit=known.unit,
            typical=known.typical,
        )
        assert known.source
        assert math.isfinite(known.maximum)


CONTROL = [chr(number) for number in range(32)]
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=CONTROL),
    min_size=1,
    max_size=20,
)


@given(
    st.lists(NAMES, min_size=3, max_size=3, unique=True), st.lists(NAMES, min_size=2, unique=True)
)
def test_a_draft_reads_as_it_was_written_whatever_its_names(
    names: list[str], categories: list[str]
) -> None:
    number, category, label = names
    contract = DataContract(
        columns=(
            NumberColumn(name=number, minimum=-0.1, maximum=1e15, typical=(0, 1e-9)),
            CategoryColumn(name=category, categories=tuple(categories[:9]), missing="neutral"),
        ),
        label=Label(name=label, negative="no", positive="1.0"),
    )
    origins = {number: f"from {category}", category: number}
    text = draft_yaml(Draft(contract, origins, {label: number}))
    assert DataContract.model_validate(yaml.safe_load(text)) == contract
