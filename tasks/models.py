"""What the coordinator needs PyTorch for; the tasks run these functions apart (`tasks.apart`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from fl.spec import ModelSpec
from fl.weights import Weights, encode_weights

# What loading the registered model needs beside this package; pinned as the project pins them.
_SERVING_REQUIREMENTS: Final = (
    *("torch==2.13.0", "safetensors", "pandas", "numpy", "pydantic", "pyyaml"),
)


def encoded_initial_weights(spec: ModelSpec, *, seed: int) -> bytes:
    """Returns a model's initial weights, encoded; the same for the same seed."""
    from fl.architectures import initial_weights

    return encode_weights(initial_weights(spec, seed=seed))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelToLog:
    """A model and what goes into MLflow with it.

    Attributes:
        run_id: the run that made it.
        card: the model card, Markdown.
        metrics: its figures, by name.
        step: rounds behind its weights.
    """

    run_id: str
    spec: ModelSpec
    weights: Weights
    card: str
    metrics: Mapping[str, float]
    step: int


def logged_model(model: ModelToLog) -> str:
    """Exports a model, logs it to MLflow and registers it; returns its version.

    MLflow loads it and has it score the example on the way.
    """
    import mlflow

    from fl.serving import example_input, export_model
    from tasks.signature import signature_of

    with mlflow.start_run(run_id=model.run_id), TemporaryDirectory() as directory:
        data = Path(directory) / "model"
        export_model(data, model.spec, model.weights, card=model.card)
        logged = mlflow.pyfunc.log_model(
            name="model",
            loader_module="fl.serving",
            data_path=str(data),
            registered_model_name=model.spec.name,
            signature=signature_of(model.spec.contract),
            input_example=example_input(model.spec),
            pip_requirements=list(_SERVING_REQUIREMENTS),
        )
        mlflow.log_metrics(dict(model.metrics), step=model.step, model_id=logged.model_id)
    return str(logged.registered_model_version)
