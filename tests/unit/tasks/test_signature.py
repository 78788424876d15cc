"""A data contract in MLflow's terms."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models.utils import _enforce_schema

from fl.contract import DataContract
from tasks.signature import contract_schema, signature_of

TABLE = DataContract.model_validate(
    {
        "columns": [
            {"name": "age", "minimum": 0, "maximum": 120, "whole": True},
            {"name": "grade", "minimum": 1, "maximum": 3, "whole": True, "missing": "neutral"},
            {"name": "glucose", "minimum": 0, "maximum": 500},
            {"kind": "category", "name": "sex", "categories": ["0", "1"], "missing": "indicate"},
        ],
        "label": {"name": "ill"},
    }
)


def images(**how: Any) -> DataContract:
    return DataContract.model_validate(
        {"images": {"height": 9, "width": 8, **how}, "label": {"name": "ill"}}
    )


def test_the_dataset_s_schema_has_types_and_says_what_may_be_missing() -> None:
    columns = json.loads(contract_schema(TABLE))["mlflow_colspec"]
    assert [(c["name"], c["type"], c["required"]) for c in columns] == [
        ("age", "long", True),
        ("grade", "double", False),  # a whole number that may be missing
        ("glucose", "double", True),
        ("sex", "string", False),
        ("ill", "string", True),
    ]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"glucose": [140, 99], "age": [40, 41]}),  # whole, as pandas reads them
        pd.DataFrame({"glucose": [140.5, 99.0], "age": [40, 41], "sex": [0, 1]}),
        pd.DataFrame({"glucose": ["140", "?"], "age": [40.0, np.nan], "grade": [None, None]}),
        pd.DataFrame({"glucose": [1.0], "age": ["40"], "sex": pd.Categorical(["1"])}),
    ],
)
def test_the_signature_lets_through_what_the_contract_has_to_judge(frame: pd.DataFrame) -> None:
    enforced = _enforce_schema(frame, signature_of(TABLE).inputs)
    assert enforced[list(frame.columns)].astype(object).equals(frame.astype(object))


def test_the_signature_asks_for_the_columns_that_must_be_there() -> None:
    inputs = signature_of(TABLE).inputs
    assert inputs.required_input_names() == ["age", "glucose"]
    assert inputs.optional_input_names() == ["grade", "sex"]
    assert signature_of(TABLE).outputs.input_names() == ["score", "label"]


@pytest.mark.parametrize(
    ("contract", "kind", "shape"),
    [
        (images(), np.uint8, (-1, 9, 8)),
        (images(channels=3), np.uint8, (-1, 9, 8, 3)),
        (images(maximum=1), np.float32, (-1, 9, 8)),
    ],
)
def test_images_are_a_tensor(contract: DataContract, kind: Any, shape: tuple[int, ...]) -> None:
    (tensor,) = signature_of(contract).inputs.inputs
    assert (tensor.type, tensor.shape) == (np.dtype(kind), shape)
    assert "mlflow_tensorspec" in json.loads(contract_schema(contract))
