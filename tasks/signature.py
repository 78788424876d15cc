"""A data contract in MLflow's terms: the schema of the data, and the signature of a model.

The two differ, because MLflow holds a model's input to its signature before the model sees it, more
narrowly than the contract does. It refuses whole numbers in a column of doubles, which is how
pandas reads a column of such that happens to have no decimals, numbers in a column of strings, and
text such as ``?`` that the contract names for an empty cell. So the signature names the columns and
which of them may be left out, and leaves the cells to the contract; the types stand in the schema
of the run's dataset.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType

from fl.contract import CategoryColumn, DataContract, Images, NumberColumn


def contract_schema(contract: DataContract) -> str:
    """Returns the schema of what a model reads and of the label, as MLflow writes it."""
    if contract.images is not None:
        images = {"features": _images(contract.images).to_json(), "targets": None}
        return json.dumps({"mlflow_tensorspec": images})
    columns = [
        ColSpec(_type_of(column), column.name, required=column.missing == "refuse")
        for column in contract.columns
    ]
    label = ColSpec(DataType.string, contract.label.name)
    return json.dumps({"mlflow_colspec": Schema([*columns, label]).to_dict()})


def signature_of(contract: DataContract) -> ModelSignature:
    """Returns the signature of a model that reads what the contract names, unscaled."""
    outputs = Schema([ColSpec(DataType.double, "score"), ColSpec(DataType.string, "label")])
    if contract.images is not None:
        return ModelSignature(_images(contract.images), outputs)
    columns = [
        ColSpec(AnyType(), column.name, required=column.missing == "refuse")
        for column in contract.columns
    ]
    return ModelSignature(Schema(columns), outputs)


def _type_of(column: NumberColumn | CategoryColumn) -> DataType:
    if isinstance(column, CategoryColumn):
        return DataType.string
    # A whole number that may be missing is a double: there is no empty whole number.
    return DataType.long if column.whole and column.missing == "refuse" else DataType.double


def _images(images: Images) -> Schema:
    kind: np.dtype[Any] = np.dtype(images.pixel_type)
    return Schema([TensorSpec(kind, (-1, *images.array_shape))])
