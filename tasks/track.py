"""Tracking: one MLflow run a training, with its parameters, its data contract and its metrics.

The step of a metric is the number of rounds behind the weights it describes: step 0 is the initial
model, step r the model that round r made. A round measures the weights it starts from, so round r
logs step r - 1 and the closing evaluation logs the last step.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.tracking import MlflowClient
from prefect import task
from prefect.cache_policies import NO_CACHE

from fl.contract_file import CONTRACT_FILE, contract_hash, contract_yaml
from tasks.run_fields import TrainingFacts, run_params, run_tags
from tasks.signature import contract_schema

_DATASET_DIGEST_LENGTH: Final = 36  # MLflow's limit


def start_run(facts: TrainingFacts) -> str:
    """Creates the training's MLflow run in the experiment of its model; returns the run's id.

    The data contract is logged as the run's dataset and as ``contract.yaml``: the data themselves
    are nowhere but at the hospitals.
    """
    client = MlflowClient()
    name = facts.spec.name
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    run = client.create_run(
        experiment_id,
        run_name=f"training-{str(facts.training_id)[:8]}",
        tags=run_tags(facts),
    )
    run_id = str(run.info.run_id)
    client.log_batch(run_id, params=[Param(k, v) for k, v in run_params(facts).items()])
    client.log_inputs(run_id, datasets=[_dataset_of(facts)])
    client.log_text(run_id, contract_yaml(facts.spec.contract), CONTRACT_FILE)
    return run_id


def _dataset_of(facts: TrainingFacts) -> DatasetInput:
    contract = facts.spec.contract
    dataset = Dataset(
        name=f"{facts.spec.name} contract",
        digest=contract_hash(contract)[:_DATASET_DIGEST_LENGTH],
        source_type="hospitals",
        source="the rows stay at the hospitals; contract.yaml says what they look like",
        schema=contract_schema(contract),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


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


def annotate_run(run_id: str, tags: dict[str, str]) -> None:
    """Sets tags of a run, such as its description, in one request."""
    MlflowClient().log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def end_run(run_id: str, *, failed: bool) -> None:
    """Marks the training's MLflow run as finished or failed."""
    MlflowClient().set_terminated(run_id, "FAILED" if failed else "FINISHED")
