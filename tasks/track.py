"""Tracking: one MLflow run a training, metrics by round, plots, and the registered model.

The step of a metric is the number of rounds behind the weights it describes: step 0 is the initial
model, step r the model that round r made. A round measures the weights it starts from, so round r
logs step r - 1 and the closing evaluation logs the last step.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import mlflow
from mlflow.entities import Metric, Param
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient
from prefect import task
from prefect.cache_policies import NO_CACHE

from fl.evaluation import RocCurve
from fl.spec import ModelSpec
from fl.weights import Weights
from tasks.apart import run_apart
from tasks.models import exported_model
from tasks.plots import history_figure, roc_figure

# What loading the registered model needs beside this package; pinned as the project pins them.
_SERVING_REQUIREMENTS: Final = ("torch==2.13.0", "safetensors", "pandas", "numpy", "pydantic")


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A version in MLflow's registry."""

    name: str
    version: str

    @property
    def uri(self) -> str:
        """URI under which ``mlflow.pyfunc.load_model`` loads it."""
        return f"models:/{self.name}/{self.version}"


def start_run(
    *, training_id: UUID, model: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> str:
    """Creates the training's MLflow run in the experiment of its model; returns the run's id."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(model)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(model)
    run = client.create_run(
        experiment_id, run_name=f"training-{str(training_id)[:8]}", tags=dict(tags)
    )
    client.log_batch(run.info.run_id, params=[Param(k, str(v)) for k, v in params.items()])
    return str(run.info.run_id)


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """A figure at a number of rounds trained."""

    name: str
    value: float
    step: int


@task(name="log_to_mlflow", cache_policy=NO_CACHE, persist_result=False)
def log_to_mlflow(run_id: str, points: Sequence[MetricPoint]) -> None:
    """Logs a round's figures in one request."""
    now_ms = int(time.time() * 1000)
    MlflowClient().log_batch(
        run_id, metrics=[Metric(p.name, p.value, now_ms, p.step) for p in points]
    )


@lru_cache(maxsize=8)
def mlflow_run_url(run_id: str) -> str:
    """Returns the address of a run in the MLflow UI."""
    experiment_id = MlflowClient().get_run(run_id).info.experiment_id
    return f"{mlflow.get_tracking_uri()}/#/experiments/{experiment_id}/runs/{run_id}"


@task(name="register_model", cache_policy=NO_CACHE, persist_result=False)
def register_model(
    run_id: str,
    spec: ModelSpec,
    weights: Weights,
    *,
    description: str,
    roc: RocCurve | None,
    history: Sequence[Mapping[str, float]],
) -> RegisteredModel:
    """Logs the plots and the model, registers it under its name, and ends the MLflow run.

    ``description`` is what the registry shows of the version. The artifact holds the specification
    and the weights as safetensors; the code comes from the installed package, and no pickle is
    written.
    """
    with mlflow.start_run(run_id=run_id), tempfile.TemporaryDirectory() as directory:
        if roc is not None:
            mlflow.log_figure(roc_figure(roc), "plots/roc.png")
        for name, label in (("auc", "AUC"), ("accuracy", "Accuracy"), ("epsilon", "Epsilon")):
            mlflow.log_figure(history_figure(history, name, label), f"plots/{name}.png")
        data = Path(directory) / "model"
        example, answer = run_apart(exported_model, data, spec, weights)
        logged = mlflow.pyfunc.log_model(
            name="model",
            loader_module="fl.serving",
            data_path=str(data),
            registered_model_name=spec.name,
            signature=infer_signature(example, answer),
            pip_requirements=list(_SERVING_REQUIREMENTS),
        )
    registered = RegisteredModel(spec.name, str(logged.registered_model_version))
    MlflowClient().update_model_version(registered.name, registered.version, description)
    return registered


def end_run(run_id: str, *, failed: bool) -> None:
    """Marks the training's MLflow run as finished or failed."""
    MlflowClient().set_terminated(run_id, "FAILED" if failed else "FINISHED")
