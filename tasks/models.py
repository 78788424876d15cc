"""What the coordinator needs PyTorch for; the tasks run these functions apart (`tasks.apart`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from fl.spec import ModelSpec
from fl.weights import Weights, encode_weights


def encoded_initial_weights(spec: ModelSpec, *, seed: int) -> bytes:
    """Returns a model's initial weights, encoded; the same for the same seed."""
    from fl.architectures import initial_weights

    return encode_weights(initial_weights(spec, seed=seed))


def exported_model(
    directory: Path, spec: ModelSpec, weights: Weights, *, card: str
) -> tuple[pd.DataFrame | NDArray[Any], pd.DataFrame]:
    """Exports a model and returns an example of what it reads and of what it answers."""
    from fl.serving import example_input, export_model, load_predictor

    export_model(directory, spec, weights, card=card)
    example = example_input(spec)
    return example, load_predictor(directory).predict(example)
