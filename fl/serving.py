"""The finished model, loadable by MLflow and by anybody else, without MLflow and without pickle.

    export_model(Path("export"), spec, weights)
    mlflow.pyfunc.log_model(loader_module="fl.serving", data_path="export", …)

The export is two files that say all: ``weights.safetensors`` and ``spec.json``. MLflow stores the
name of this module and calls `_load_pyfunc`; nothing of the model is ever unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import nn

from fl.architectures import build, load_weights
from fl.data import features_of
from fl.errors import ModelError
from fl.scoring import scores_of_records
from fl.spec import ModelSpec
from fl.weights import Weights

WEIGHTS_FILE: Final = "weights.safetensors"
SPEC_FILE: Final = "spec.json"
THRESHOLD: Final = 0.5


class Predictor:
    """A model that reads raw rows, as they stand in a hospital's table.

    Args:
        spec: the model's specification; its contract says how columns are named and scaled.
        module: the network, float32 (n, d) to logits (n,) or (n, 1).
    """

    def __init__(self, spec: ModelSpec, module: nn.Module) -> None:
        self.spec = spec
        self._module = module.eval()

    def predict(
        self, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Scores rows.

        Args:
            model_input: n rows with the contract's columns, unscaled, in any order; other columns
                are ignored.
            params: MLflow's inference parameters; there are none.

        Returns:
            One row for each row, under the same index: ``score``, the probability of the positive
            class, and ``label``, the contract's name of the class called at 0.5.

        Raises:
            ContractViolation: columns that are missing, cells that are empty, no number or out of
                the public range, by column, rule and count.
            ModelError: the input is no data frame, or there are parameters.
        """
        if not isinstance(model_input, pd.DataFrame):
            raise ModelError(
                f"model_input is {type(model_input).__name__}: give a pandas DataFrame with the "
                "contract's columns"
            )
        if params:
            raise ModelError(f"params {sorted(params)}: this model takes none")
        features = features_of(model_input, self.spec.contract)
        scores = scores_of_records(self._module, features).astype(np.float64)
        label = self.spec.contract.label
        called = np.where(scores >= THRESHOLD, label.positive, label.negative)
        return pd.DataFrame({"score": scores, "label": called}, index=model_input.index)


def export_model(directory: Path, spec: ModelSpec, weights: Weights) -> None:
    """Writes a model as ``weights.safetensors`` and ``spec.json``.

    Args:
        directory: made if it is not there; files of these names in it are replaced.
        spec: the model's specification.
        weights: float32 arrays by name, checked against the specification's architecture.

    Raises:
        ModelError: weights that do not fit the architecture.
    """
    load_weights(build(spec), weights)
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in weights.items()}
    save_file(arrays, directory / WEIGHTS_FILE)
    (directory / SPEC_FILE).write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_predictor(directory: Path) -> Predictor:
    """Reads what `export_model` wrote.

    Raises:
        ModelError: a file that is missing or unreadable, or weights that do not fit the spec.
    """
    try:
        spec = ModelSpec.model_validate_json((directory / SPEC_FILE).read_bytes())
        weights = load_file(directory / WEIGHTS_FILE)
    except (OSError, ValidationError, SafetensorError) as error:
        raise ModelError(f"{directory} holds no model of this project: {error}") from error
    module = build(spec)
    load_weights(module, weights)
    return Predictor(spec, module)


def example_input(spec: ModelSpec) -> pd.DataFrame:
    """Returns one made-up raw row, each column in the middle of its public range."""
    return pd.DataFrame({c.name: [c.minimum / 2 + c.maximum / 2] for c in spec.contract.columns})


def _load_pyfunc(path: str) -> Predictor:
    """MLflow's entry point: ``path`` is the exported directory within the logged model."""
    return load_predictor(Path(path))
