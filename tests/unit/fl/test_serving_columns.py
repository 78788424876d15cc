"""What a loaded model takes for a row: cells as files have them, empty or not."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from fl.architectures import initial_weights
from fl.contract import DataContract
from fl.errors import ContractViolation
from fl.serving import Predictor, example_input, predictor_of
from fl.spec import ModelSpec

SPEC = ModelSpec.model_validate(
    {
        "name": "m",
        "architecture": {"kind": "logistic"},
        "contract": DataContract.model_validate(
            {
                "columns": [
                    {"name": "age", "minimum": 0, "maximum": 120, "whole": True},
                    {"name": "glucose", "minimum": 0, "maximum": 500, "missing": "indicate"},
                    {
                        "kind": "category",
                        "name": "sex",
                        "categories": ["0", "1"],
                        "missing": "neutral",
                    },
                ],
                "label": {"name": "ill"},
            }
        ),
    }
)
FULL = pd.DataFrame({"age": [40, 60], "glucose": [99, 140], "sex": ["0", "1"]})


@pytest.fixture
def model() -> Predictor:
    """Its weights all differ, so that no two features can be taken for each other."""
    weights = initial_weights(SPEC, seed=2)
    weights["network.weight"] = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    return predictor_of(SPEC, weights)


@pytest.mark.parametrize(
    "frame",
    [
        FULL[["sex", "age", "glucose"]],
        FULL.astype(str),
        FULL.astype({"age": float, "glucose": float, "sex": int}),
        FULL.astype({"sex": float}),  # how pandas reads 0 and 1 beside an empty cell
        FULL.astype({"sex": "category"}),
    ],
    ids=["order", "text", "numbers", "floats", "categorical"],
)
def test_one_row_has_one_score_however_it_is_written(model: Predictor, frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(model.predict(frame), model.predict(FULL))


@pytest.mark.parametrize("cell", [None, math.nan, pd.NA, "", "?", "NA", " null "])
def test_an_empty_cell_is_empty_however_it_is_written(model: Predictor, cell: object) -> None:
    left_out = model.predict(FULL[["age"]])
    written = FULL.astype(object).assign(glucose=[cell, cell], sex=[cell, cell])
    pd.testing.assert_frame_equal(model.predict(written), left_out)
    assert np.isfinite(left_out["score"]).all()
    assert not np.array_equal(left_out["score"], model.predict(FULL)["score"])


def test_a_column_that_must_be_there_must_be_full(model: Predictor) -> None:
    with pytest.raises(ContractViolation, match=r"age: missing-column \(1\)"):
        model.predict(FULL[["glucose", "sex"]])
    with pytest.raises(ContractViolation, match=r"age: missing-value \(1\)"):
        model.predict(FULL.assign(age=[40, None]))


def test_other_names_of_categories_are_refused_without_being_shown(model: Predictor) -> None:
    with pytest.raises(ContractViolation) as refused:
        model.predict(FULL.assign(sex=["0", "divers"]))
    assert str(refused.value) == "sex: unknown-category (1)"


def test_the_example_can_be_scored(model: Predictor) -> None:
    assert len(model.predict(example_input(SPEC))) == 1
