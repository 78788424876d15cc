"""A data contract as a file and as a hash."""

from __future__ import annotations

import yaml

from fl.contract import DataContract
from fl.contract_file import contract_hash, contract_yaml

CONTRACT = DataContract.model_validate(
    {
        "columns": [
            {"name": "größe", "minimum": 0, "maximum": 3, "typical": [1, 2], "missing": "neutral"},
            {"kind": "category", "name": "sex", "categories": ["f", "m"]},
        ],
        "label": {"name": "ill"},
        "patient": "case",
        "subgroups": [{"name": "age", "bands": [0, 40, 120]}],
    }
)


def test_the_file_reads_back_as_the_same_contract() -> None:
    text = contract_yaml(CONTRACT)
    assert DataContract.model_validate(yaml.safe_load(text)) == CONTRACT
    assert "größe" in text
    assert [c["kind"] for c in yaml.safe_load(text)["columns"]] == ["number", "category"]


def test_images_have_a_file_too() -> None:
    images = DataContract.model_validate(
        {"images": {"height": 28, "width": 28}, "label": {"name": "ill"}}
    )
    assert DataContract.model_validate(yaml.safe_load(contract_yaml(images))) == images


def test_equal_contracts_have_one_hash_and_others_another() -> None:
    again = DataContract.model_validate(yaml.safe_load(contract_yaml(CONTRACT)))
    assert contract_hash(again) == contract_hash(CONTRACT)
    other = CONTRACT.model_copy(update={"patient": None})
    assert contract_hash(other) != contract_hash(CONTRACT)
