"""What a training sends to MLflow; the whole stack in ``tests/e2e`` has a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from mlflow.models import ModelSignature

from fl.architecture_spec import Logistic
from fl.contract import DataContract, Label, NumberColumn
from fl.evaluation import roc_curve, score_histogram
from fl.spec import ModelSpec
from fl.weights import Weights
from tasks import track
from tasks.track import (
    MetricPoint,
    RegisteredModel,
    end_run,
    log_to_mlflow,
    mlflow_run_url,
    register_model,
    start_run,
)

TRAINING = UUID("6f1c1c1e-0000-4000-8000-000000000001")
SPEC = ModelSpec(
    name="breast-cancer",
    architecture=Logistic(),
    contract=DataContract(
        columns=(NumberColumn(name="radius", minimum=0, maximum=30),), label=Label(name="malignant")
    ),
)


@dataclass
class FakeMlflow:
    """As much of MLflow's client and module as is called."""

    experiments: dict[str, str] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    metrics: list[tuple[str, float, int]] = field(default_factory=list)
    batches: int = 0
    figures: list[str] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    files: list[set[str]] = field(default_factory=list)
    descriptions: dict[tuple[str, str], str] = field(default_factory=dict)

    # The client.

    def get_experiment_by_name(self, name: str) -> Any:
        found = self.experiments.get(name)
        return None if found is None else SimpleNamespace(experiment_id=found)

    def create_experiment(self, name: str) -> str:
        self.experiments[name] = f"e{len(self.experiments)}"
        return self.experiments[name]

    def create_run(self, experiment_id: str, *, run_name: str, tags: dict[str, str]) -> Any:
        run_id = f"r{len(self.runs)}"
        info = SimpleNamespace(run_id=run_id, experiment_id=experiment_id)
        self.runs[run_id] = SimpleNamespace(
            info=info, name=run_name, tags=tags, params={}, status="RUNNING"
        )
        return self.runs[run_id]

    def get_run(self, run_id: str) -> Any:
        return self.runs[run_id]

    def log_batch(self, run_id: str, *, metrics: Any = (), params: Any = ()) -> None:
        self.batches += 1
        self.metrics += [(m.key, m.value, m.step) for m in metrics]
        self.runs[run_id].params.update({p.key: p.value for p in params})

    def set_terminated(self, run_id: str, status: str) -> None:
        self.runs[run_id].status = status

    def update_model_version(self, name: str, version: str, description: str) -> None:
        self.descriptions[name, version] = description

    # The module.

    @property
    def pyfunc(self) -> Any:
        return self

    def get_tracking_uri(self) -> str:
        return "http://127.0.0.1:5000"

    @contextmanager
    def start_run(self, *, run_id: str) -> Iterator[None]:
        yield
        self.set_terminated(run_id, "FINISHED")

    def log_figure(self, figure: Any, path: str) -> None:
        assert figure.axes
        self.figures.append(path)

    def log_model(self, **model: Any) -> Any:
        self.files.append({path.name for path in Path(model["data_path"]).iterdir()})
        self.models.append(model)
        return SimpleNamespace(registered_model_version=len(self.models))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMlflow]:
    fake = FakeMlflow()
    monkeypatch.setattr(track, "MlflowClient", lambda: fake)
    monkeypatch.setattr(track, "mlflow", fake)
    # A fresh process would take seconds to import PyTorch.
    monkeypatch.setattr(track, "run_apart", lambda function, *args: function(*args))
    yield fake
    mlflow_run_url.cache_clear()


def started() -> str:
    return start_run(
        training_id=TRAINING,
        model=SPEC.name,
        params={"rounds": 3, "learning_rate": 0.5},
        tags={"requested_by": "ada"},
    )


def test_a_training_is_one_run_in_the_experiment_of_its_model(server: FakeMlflow) -> None:
    first, second = started(), started()
    assert first != second
    assert server.experiments == {"breast-cancer": "e0"}
    run = server.runs[first]
    assert (run.name, run.info.experiment_id) == ("training-6f1c1c1e", "e0")
    assert run.params == {"rounds": "3", "learning_rate": "0.5"}
    assert run.tags == {"requested_by": "ada"}


def test_the_figures_of_a_round_go_in_one_request_each_at_its_step(server: FakeMlflow) -> None:
    run_id = started()
    before = server.batches
    log_to_mlflow.fn(run_id, [MetricPoint("auc", 0.5, 0), MetricPoint("epsilon", 1.5, 1)])
    assert server.batches == before + 1
    assert server.metrics == [("auc", 0.5, 0), ("epsilon", 1.5, 1)]


def test_the_address_of_a_run_is_that_of_mlflow_s_page(server: FakeMlflow) -> None:
    run_id = started()
    assert mlflow_run_url(run_id) == f"http://127.0.0.1:5000/#/experiments/e0/runs/{run_id}"


@pytest.mark.parametrize(("failed", "status"), [(False, "FINISHED"), (True, "FAILED")])
def test_a_run_ends_as_its_training_does(server: FakeMlflow, failed: bool, status: str) -> None:
    run_id = started()
    end_run(run_id, failed=failed)
    assert server.runs[run_id].status == status


@pytest.fixture
def weights() -> Weights:
    from fl.architectures import initial_weights

    return initial_weights(SPEC, seed=1)


def test_a_model_is_registered_with_its_pictures_and_what_it_is(
    server: FakeMlflow, weights: Weights
) -> None:
    roc = roc_curve(score_histogram(np.linspace(0, 1, 20), np.arange(20) > 8))
    run_id = started()
    model = register_model.fn(
        run_id,
        SPEC,
        weights,
        description="3 rounds",
        roc=roc,
        history=[{"auc": 0.5, "epsilon": 0.0}, {"auc": 0.9, "accuracy": 0.8, "epsilon": 1.0}],
    )
    assert model == RegisteredModel("breast-cancer", "1")
    assert model.uri == "models:/breast-cancer/1"
    assert server.figures == [f"plots/{p}.png" for p in ("roc", "auc", "accuracy", "epsilon")]
    assert server.descriptions == {("breast-cancer", "1"): "3 rounds"}
    assert server.runs[run_id].status == "FINISHED"
    (logged,) = server.models
    assert logged["loader_module"] == "fl.serving"
    assert logged["registered_model_name"] == "breast-cancer"
    assert isinstance(logged["signature"], ModelSignature)
    assert logged["signature"].inputs.input_names() == ["radius"]
    assert server.files == [{"spec.json", "weights.safetensors"}]  # no pickle


def test_without_both_classes_there_is_no_roc_picture_and_a_version_all_the_same(
    server: FakeMlflow, weights: Weights
) -> None:
    model = register_model.fn(
        started(), SPEC, weights, description="", roc=None, history=[{"epsilon": 0.0}]
    )
    assert model.version == "1"
    assert server.figures == [f"plots/{p}.png" for p in ("auc", "accuracy", "epsilon")]
