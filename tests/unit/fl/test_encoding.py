"""From cells to features: numbers, categories, empty cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from fl.contract import CategoryColumn, DataContract, Images, Label, NumberColumn
from fl.data import features_of
from fl.encoding import example_frame, feature_names, feature_steps
from fl.errors import ContractViolation

LABEL = Label(name="y")
NAN = np.nan


def contract_of(*columns: NumberColumn | CategoryColumn, **other: object) -> DataContract:
    return DataContract.model_validate({"columns": columns, "label": LABEL, **other})


def number(**fields: object) -> NumberColumn:
    return NumberColumn.model_validate({"name": "x", "minimum": 0, "maximum": 100} | fields)


def category(*names: str, **fields: object) -> CategoryColumn:
    return CategoryColumn.model_validate({"name": "c", "categories": names} | fields)


def broken(frame: dict[str, list[object]], contract: DataContract) -> set[tuple[str, str, int]]:
    with pytest.raises(ContractViolation) as caught:
        features_of(pd.DataFrame(frame), contract)
    return {(v.column, v.rule, v.count) for v in caught.value.violations}


WIDE = contract_of(
    number(missing="indicate"),
    category("f", "m", missing="indicate"),
    category("I", "II", "III", name="stage"),
)


def test_features_stand_in_the_order_of_columns_each_with_its_indicator_last() -> None:
    frame = pd.DataFrame({"stage": ["III", "I", "II"], "c": ["m", "", "f"], "x": ["", "50", "100"]})
    np.testing.assert_array_equal(
        features_of(frame, WIDE),
        [[NAN, 1, 1, 0, 0, 0, 1], [0, 0, NAN, 1, 1, 0, 0], [1, 0, 0, 0, 0, 1, 0]],
    )
    assert feature_names(WIDE) == (
        *("x", "x:missing", "c=m", "c:missing", "stage=I", "stage=II", "stage=III"),
    )
    assert feature_steps(WIDE).tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert len(feature_names(WIDE)) == len(feature_steps(WIDE)) == WIDE.features


def test_an_empty_cell_is_what_the_column_says() -> None:
    for token in ("", "NA", " ? "):
        refusing = contract_of(number(), category("f", "m"))
        assert broken({"x": [token, "1"], "c": ["f", token]}, refusing) == {
            ("x", "missing-value", 1),
            ("c", "missing-value", 1),
        }
        neutral = contract_of(number(missing="neutral"), category("a", "b", "c", missing="neutral"))
        found = features_of(pd.DataFrame({"x": [token], "c": [token]}), neutral)
        np.testing.assert_array_equal(found, [[NAN, NAN, NAN, NAN]])


def test_the_contract_says_what_stands_for_an_empty_cell() -> None:
    contract = contract_of(number(missing="neutral"), missing_tokens=("-",))
    np.testing.assert_array_equal(
        features_of(pd.DataFrame({"x": ["-", ""]}), contract), [[NAN], [NAN]]
    )
    assert broken({"x": ["NA"]}, contract) == {("x", "not-a-number", 1)}


def test_a_category_that_is_also_a_token_is_a_category() -> None:
    contract = contract_of(category("None", "severe"))
    assert features_of(pd.DataFrame({"c": ["None", "severe"]}), contract).tolist() == [[0], [1]]


def test_a_name_that_nobody_listed_is_refused_even_where_cells_may_be_empty() -> None:
    contract = contract_of(category("f", "m", missing="neutral"))
    assert broken({"c": ["F", "x", "m"]}, contract) == {("c", "unknown-category", 2)}


def test_whole_numbers_are_whole() -> None:
    contract = contract_of(number(whole=True))
    assert features_of(pd.DataFrame({"x": ["50", "1e2", "0.0"]}), contract).tolist() == [
        *([0.0], [1.0], [-1.0]),
    ]
    assert broken({"x": ["50.5", "100.5"]}, contract) == {
        ("x", "not-whole", 2),
        ("x", "out-of-range", 1),
    }


def test_values_outside_the_range_are_clipped_where_the_contract_says_so() -> None:
    contract = contract_of(number(out_of_range="clip"))
    frame = pd.DataFrame({"x": ["-5", "1e999", "50"]})
    assert features_of(frame, contract).tolist() == [[-1.0], [1.0], [0.0]]
    assert broken({"x": ["inf"]}, contract) == {("x", "not-a-number", 1)}


def test_values_outside_the_typical_range_lie_beyond_one_up_to_the_range() -> None:
    contract = contract_of(number(typical=(40, 60), out_of_range="clip"))
    frame = pd.DataFrame({"x": [40, 60, 70, 100, 1000]})
    assert features_of(frame, contract)[:, 0].tolist() == [-1, 1, 2, 5, 5]


def test_a_typical_range_far_smaller_than_the_range_stays_finite() -> None:
    contract = contract_of(number(maximum=1e15, typical=(0, 5e-324)))
    assert np.isfinite(features_of(pd.DataFrame({"x": [1e15]}), contract)).all()


@pytest.mark.parametrize(
    "column",
    [
        number(),
        number(minimum=0.2, maximum=5.4, whole=True),
        number(minimum=1, maximum=2, whole=True),
        number(missing="indicate", typical=(1, 2)),
        category("f", "m"),
        category("a", "b", "c", missing="indicate"),
    ],
)
def test_the_example_row_fits_its_contract(column: NumberColumn | CategoryColumn) -> None:
    contract = contract_of(column)
    assert features_of(example_frame(contract), contract).shape == (1, contract.features)


def test_images_have_no_columns() -> None:
    contract = DataContract(images=Images(height=8, width=8), label=LABEL)
    assert feature_steps(contract).tolist() == [0] * 64
    assert feature_names(contract) == ()
    with pytest.raises(ValueError, match="images"):
        example_frame(contract)
    assert broken({"x": []}, contract) == {("", "no-images", 1)}


def test_whole_numbers_of_two_values_lie_two_apart() -> None:
    def step(**column: Any) -> float:
        columns = (NumberColumn(name="sex", **column),)
        (found,) = feature_steps(DataContract(columns=columns, label=Label(name="y")))
        return float(found)

    assert step(minimum=0, maximum=1, whole=True) == 2
    assert step(minimum=1, maximum=2, whole=True) == 2
    assert step(minimum=0, maximum=1) == step(minimum=0, maximum=2, whole=True) == 0
