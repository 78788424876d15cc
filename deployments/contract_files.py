"""Data contracts as files: one of its own, or the one within a model's file.

contract = read_contract(Path("contract.yaml"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from deployments.errors import OperatorError
from fl.contract import DataContract
from fl.spec import ModelSpec


def read_contract(path: Path) -> DataContract:
    """Reads a contract, from its own file or from a model's.

    Raises:
        OperatorError: the file cannot be read or is no YAML.
        ValidationError: it is no contract, or no model.
    """
    content = _read(path)
    if isinstance(content, dict) and "contract" in content:
        return ModelSpec.model_validate(content).contract
    return DataContract.model_validate(content)


def read_model(path: Path) -> ModelSpec:
    """Reads a model's file.

    Raises:
        OperatorError: the file cannot be read or is no YAML.
        ValidationError: it is no model.
    """
    return ModelSpec.model_validate(_read(path))


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OperatorError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
