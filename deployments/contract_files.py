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


def read_model(
    path: Path, *, name: str | None = None, architecture: str | None = None
) -> ModelSpec:
    """Reads a model's file, or makes a model of a contract's.

    Args:
        path: YAML.
        name: of a contract's model, the file's own unless given; of a model's file it replaces the
            name.
        architecture: its kind, with that one's defaults; of a contract's file logistic for columns
            and hog-logistic for images unless given.

    Raises:
        OperatorError: the file cannot be read or is no YAML.
        ValidationError: it is no model, and no contract.
    """
    content = _read(path)
    if isinstance(content, dict) and "contract" not in content and "label" in content:
        contract = DataContract.model_validate(content)
        kind = architecture or ("logistic" if contract.images is None else "hog-logistic")
        content = {"name": path.stem, "architecture": {"kind": kind}, "contract": content}
    elif isinstance(content, dict) and architecture is not None:
        content = {**content, "architecture": {"kind": architecture}}
    if isinstance(content, dict) and name is not None:
        content = {**content, "name": name}
    return ModelSpec.model_validate(content)


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OperatorError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
