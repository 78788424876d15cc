"""A real MLflow store, and trainings that have ended, to be registered there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy import Engine

from db.blobs import BlobStore
from fl.evaluation import Evaluation, score_histogram
from fl.spec import ModelSpec
from fl.weights import Weights
from privacy.plan import PrivacyPlan
from tasks import public, registry
from tasks.closing import Closing
from tasks.coordinator import Coordinator
from tasks.evaluate import RoundEvaluation
from tasks.registry import RegisteredModel, choose_champion, register_model
from tasks.run_fields import TrainingFacts
from tasks.track import start_run
from tasks.training import TrainingProgress

SPEC = ModelSpec.model_validate(
    {
        "name": "breast-cancer",
        "description": "A first try.",
        "architecture": {"kind": "logistic", "standardise": False},
        "contract": {
            "columns": [
                {"name": "radius", "minimum": 0, "maximum": 30, "unit": "mm"},
                {"name": "age", "minimum": 0, "maximum": 120, "whole": True},
            ],
            "label": {"name": "malignant", "negative": "no", "positive": "yes"},
        },
    }
)
PLAN = PrivacyPlan(
    clip_norm=0.5,
    noise_multiplier=1.0,
    sampling_rate=1.0,
    expected_batch_size=32,
    evaluation_noise_multiplier=4.0,
    steps_per_round=1,
    rounds=2,
    delta=1e-5,
)
RADIUS_ALONE: Weights = {
    "network.weight": np.array([[4.0, 0.0]], np.float32),
    "network.bias": np.zeros(1, np.float32),
}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow store on SQLite: its tables take seconds to make, so once for all tests."""
    folder = tmp_path_factory.mktemp("mlflow")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def client(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    monkeypatch.chdir(tmp_path)  # artifacts lie below the working folder
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store)
    # A fresh process would take seconds to import PyTorch.
    near = lambda function, *args, **how: function(*args, **how)  # noqa: E731
    for module in (registry, public):
        monkeypatch.setattr(module, "run_apart", near)
    yield MlflowClient()
    mlflow.set_tracking_uri(before)


@pytest.fixture
def coordinator(engine: Engine, blobs: BlobStore) -> Coordinator:
    return Coordinator(engine, blobs)


@pytest.fixture
def spec(client: MlflowClient) -> ModelSpec:
    """A model that nobody has registered yet."""
    return SPEC.model_copy(update={"name": f"m-{uuid4().hex[:12]}"})


def _evaluation(auc: float | None) -> RoundEvaluation:
    histogram = score_histogram(np.linspace(0, 1, 20), np.arange(20) > 8)
    figures = Evaluation(
        auc=auc, accuracy=0.9, sensitivity=0.8, specificity=1.0, records=20, positives=11
    )
    return RoundEvaluation(histogram=histogram, figures=figures)


def _closing(spec: ModelSpec, auc: float | None = 0.9, **training: Any) -> Closing:
    progress: dict[str, Any] = {
        "training_id": uuid4(),
        "model_id": uuid4(),
        "model_version": 3,
        "purpose": "research",
        "requested_by": "ada",
        "spec": spec,
        "plan": PLAN,
        "rounds": 2,
        "attempted": 3,
        "completed": 2,
        "charged": 2,
        "state": "running",
        "weights": "",
        "mlflow_run_id": "",
        "strategy": {"kind": "fedavgm", "server_momentum": 0.5},
        "least_cohort": 3,
        "public_test": None,
    }
    return Closing(
        training=TrainingProgress(**{**progress, **training}),
        evaluation=_evaluation(auc),
        epsilon=1.5,
        hospitals=4,
        history=[{"epsilon": 0.0}, {"auc": 0.7, "epsilon": 1.0}, {"auc": 0.9, "epsilon": 1.5}],
        public=None,
        made_on=date(2026, 1, 2),
    )


def _run_of(ended: Closing) -> str:
    training = ended.training
    return start_run(
        TrainingFacts(
            training_id=training.training_id,
            spec=training.spec,
            model_version=training.model_version,
            purpose=training.purpose,
            requested_by=training.requested_by,
            recipe="linear",
            strategy=training.strategy,
            plan=training.plan,
            epsilon=2.0,
            least_cohort=training.least_cohort,
            hospitals=4,
            public_test=training.public_test,
        )
    )


def _registered(ended: Closing, weights: Weights = RADIUS_ALONE) -> RegisteredModel:
    model: RegisteredModel = register_model.fn(_run_of(ended), weights, ended)
    return model


@pytest.fixture
def close(coordinator: Coordinator) -> Callable[..., Any]:
    """Registers a version and lets the rule decide; returns the decision."""

    def closed(ended: Closing, weights: Weights = RADIUS_ALONE) -> Any:
        return choose_champion.fn(coordinator, _registered(ended, weights), ended)

    return closed


@pytest.fixture
def closing() -> Callable[..., Closing]:
    """Makes the end of a training: of a model, with an AUC, and other fields of the training."""
    return _closing


@pytest.fixture
def run_of(client: MlflowClient) -> Callable[[Closing], str]:
    """Starts the run of a training that has ended since."""
    return _run_of


@pytest.fixture
def registered(client: MlflowClient) -> Callable[..., RegisteredModel]:
    """Registers the model of a training."""
    return _registered


@pytest.fixture
def radius_alone() -> Weights:
    """Weights of a model that looks at the radius alone."""
    return RADIUS_ALONE
