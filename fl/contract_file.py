"""A data contract as others read it: a YAML file, and its hash.

    contract_yaml(contract)
    contract_hash(contract)  # the same for equal contracts

Two models are compared only where the hashes of their contracts are equal.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

import yaml

from fl.contract import DataContract

CONTRACT_FILE: Final = "contract.yaml"


def contract_yaml(contract: DataContract) -> str:
    """Returns the contract as YAML; reading it gives an equal contract."""
    content = contract.model_dump(mode="json", exclude_defaults=True)
    # A column that does not say its kind is a number; a reader should not have to know.
    for written, column in zip(content.get("columns", ()), contract.columns, strict=False):
        written["kind"] = column.kind
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def contract_hash(contract: DataContract) -> str:
    """Returns the SHA-256, hex, of the contract with all its defaults."""
    text = json.dumps(contract.model_dump(mode="json"), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
