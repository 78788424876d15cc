"""The finished model, loadable by MLflow and by anybody else, without MLflow and without pickle.

    export_model(Path("export"), spec, weights)
    mlflow.pyfunc.log_model(loader_module="fl.serving", data_path="export", …)

What the export needs is two files: ``weights.safetensors`` and ``spec.json``. MLflow stores the
name of this module and calls `_load_pyfunc`; nothing of the model is ever unpickled. Beside them
lie the data contract and the model card, for people.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import nn

from fl.architectures import build, load_weights
from fl.contract import DataContract, Images
from fl.contract_file import CONTRACT_FILE, contract_yaml
from fl.data import features_of
from fl.encoding import example_frame
from fl.errors import ModelError
from fl.scoring import scores_of_records
from fl.spec import ModelSpec
from fl.weights import Weights

WEIGHTS_FILE: Final = "weights.safetensors"
SPEC_FILE: Final = "spec.json"
CARD_FILE: Final = "MODEL_CARD.md"

"""Records that are scored at once: bounds the memory, not the number of rows."""


class Predictor:
    """A model that reads raw records, as they stand in a hospital's table or images.

    Args:
        spec: the model's specification; its contract says how columns are named and scaled.
        module: the network, records of shape (n, *contract.shape) to logits (n,) or (n, 1).
    """

    def __init__(self, spec: ModelSpec, module: nn.Module) -> None:
        self.spec = spec
        self._module = module.eval()

    def predict(
        self,
        model_input: pd.DataFrame | NDArray[Any],
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Scores records.

        Args:
            model_input: for a contract of columns a data frame of n rows with these columns,
                unscaled, as numbers or text, in any order; other columns are ignored, and one whose
                cells may be empty may be left out. For a contract of images an array of shape
                (n, height, width) or (n, height, width, channels) with the contract's pixel values.
            params: MLflow's inference parameters; there are none.

        Returns:
            One row for each record, under the frame's index: ``score``, the probability of the
            positive class, and ``label``, the contract's name of the class called at the model's
            operating point.

        Raises:
            ContractViolation: columns that are missing, cells that break a rule, by column, rule
                and count.
            ModelError: input of another kind or shape, scores that are not numbers, or parameters.
        """
        if params:
            raise ModelError(f"params {sorted(params)}: this model takes none")
        contract = self.spec.contract
        records: NDArray[Any]
        if contract.images is not None:
            records, index = images_of(model_input, contract.images), None
        else:
            frame = _frame(model_input)
            records, index = _columns_of(frame, contract), frame.index
        scores = self.scores(records)
        label = contract.label
        called = np.where(scores >= self.spec.operating_point.cut, label.positive, label.negative)
        return pd.DataFrame({"score": scores, "label": called}, index=index)

    def scores(self, records: NDArray[Any]) -> NDArray[np.float64]:
        """Scores records as a `fl.table.Table` has them: float64, shape (n,).

        Raises:
            ModelError: scores that are not numbers, as of weights that diverged.
        """
        scores = scores_of_records(self._module, records).astype(np.float64)
        if broken := int(np.count_nonzero(~np.isfinite(scores))):
            raise ModelError(f"{broken} of {len(scores)} scores are not numbers")
        return scores


def images_of(model_input: Any, images: Images) -> NDArray[Any]:
    """Returns images as a table has them: uint8 or float32, (n, channels, height, width).

    Raises:
        ModelError: no array, another shape or type, or pixels out of the contract's range.
    """
    shape = (images.height, images.width)
    wanted = f"an array of shape (n, {images.height}, {images.width}, {images.channels})"
    if not isinstance(model_input, np.ndarray):
        raise ModelError(f"model_input is {type(model_input).__name__}: give {wanted}")
    pixels = model_input
    if images.channels == 1 and pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.shape[1:] != (*shape, images.channels):
        raise ModelError(f"model_input has shape {model_input.shape}: give {wanted}")
    if pixels.dtype.kind not in "uif":
        raise ModelError(f"model_input has type {pixels.dtype}: give uint8 or float32")
    outside = ~((pixels >= images.minimum) & (pixels <= images.maximum)).all(axis=(1, 2, 3))
    if count := int(np.count_nonzero(outside)):
        raise ModelError(
            f"{count} of {len(pixels)} images have pixels outside {images.minimum:g} to "
            f"{images.maximum:g}"
        )
    kept = pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
    return np.ascontiguousarray(kept.transpose(0, 3, 1, 2))


def _frame(model_input: Any) -> pd.DataFrame:
    if not isinstance(model_input, pd.DataFrame):
        raise ModelError(
            f"model_input is {type(model_input).__name__}: give a pandas DataFrame with the "
            "contract's columns"
        )
    return model_input


def _columns_of(frame: pd.DataFrame, contract: DataContract) -> NDArray[np.float32]:
    """Returns a frame's features; columns that may be empty may be left out."""
    left_out = {
        column.name: ""
        for column in contract.columns
        if column.missing != "refuse" and column.name not in frame.columns
    }
    return features_of(frame.assign(**left_out), contract)


def export_model(
    directory: Path, spec: ModelSpec, weights: Weights, *, card: str | None = None
) -> None:
    """Writes a model as ``weights.safetensors`` and ``spec.json``, with its contract.

    Args:
        directory: made if it is not there; files of these names in it are replaced.
        spec: the model's specification.
        weights: float32 arrays by name, checked against the specification's architecture.
        card: the model card, Markdown.

    Raises:
        ModelError: weights that do not fit the architecture.
    """
    load_weights(build(spec), weights)
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in weights.items()}
    save_file(arrays, directory / WEIGHTS_FILE)
    (directory / SPEC_FILE).write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (directory / CONTRACT_FILE).write_text(contract_yaml(spec.contract), encoding="utf-8")
    if card is not None:
        (directory / CARD_FILE).write_text(card, encoding="utf-8")


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
    return predictor_of(spec, weights)


def predictor_of(spec: ModelSpec, weights: Weights) -> Predictor:
    """Makes a predictor of a model and its weights.

    Raises:
        ModelError: weights that do not fit the architecture.
    """
    module = build(spec)
    load_weights(module, weights)
    return Predictor(spec, module)


def example_input(spec: ModelSpec) -> pd.DataFrame | NDArray[Any]:
    """Returns one made-up record: the middle of each range, the first category, a grey image."""
    images = spec.contract.images
    if images is not None:
        middle = images.minimum / 2 + images.maximum / 2
        return np.full((1, *images.array_shape), middle, images.pixel_type)
    return example_frame(spec.contract)


def _load_pyfunc(path: str) -> Predictor:
    """MLflow's entry point: ``path`` is the exported directory within the logged model."""
    return load_predictor(Path(path))
