"""What a training sends to MLflow; the whole stack in ``tests/e2e`` has a real server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from fl.architecture_spec import Logistic
from fl.contract import DataContract, Label, NumberColumn
from fl.spec import ModelSpec
from privacy.plan import PrivacyPlan
from tasks import track
from tasks.run_fields import TrainingFacts, run_params, run_tags
from tasks.track import (
    MetricPoint,
    annotate_run,
    end_run,
    log_to_mlflow,
    mlflow_run_url,
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
    texts: dict[str, str] = field(default_factory=dict)
    datasets: list[Any] = field(default_factory=list)

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

    def log_batch(
        self, run_id: str, *, metrics: Any = (), params: Any = (), tags: Any = ()
    ) -> None:
        self.batches += 1
        self.metrics += [(m.key, m.value, m.step) for m in metrics]
        self.runs[run_id].params.update({p.key: p.value for p in params})
        self.runs[run_id].tags.update({t.key: t.value for t in tags})

    def log_inputs(self, run_id: str, *, datasets: Any) -> None:
        self.datasets += datasets

    def log_text(self, run_id: str, text: str, path: str) -> None:
        self.texts[path] = text

    def set_terminated(self, run_id: str, status: str) -> None:
        self.runs[run_id].status = status

    # The module.

    def get_tracking_uri(self) -> str:
        return "http://127.0.0.1:5000"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMlflow]:
    fake = FakeMlflow()
    monkeypatch.setattr(track, "MlflowClient", lambda: fake)
    monkeypatch.setattr(track, "mlflow", fake)
    yield fake
    mlflow_run_url.cache_clear()


FACTS = TrainingFacts(
    training_id=TRAINING,
    spec=SPEC,
    model_version=2,
    purpose="screening",
    requested_by="ada",
    recipe="linear",
    strategy={"kind": "averaged", "step": 6.0},
    plan=PrivacyPlan(
        clip_norm=1,
        noise_multiplier=1,
        sampling_rate=1,
        expected_batch_size=32,
        evaluation_noise_multiplier=4,
        steps_per_round=1,
        rounds=3,
        delta=1e-5,
    ),
    epsilon=7.99,
    least_cohort=3,
    hospitals=5,
)


def started() -> str:
    return start_run(FACTS)


def test_a_training_is_one_run_in_the_experiment_of_its_model(server: FakeMlflow) -> None:
    first, second = started(), started()
    assert first != second
    assert server.experiments == {"breast-cancer": "e0"}
    run = server.runs[first]
    assert (run.name, run.info.experiment_id) == ("training-6f1c1c1e", "e0")
    assert run.params == run_params(FACTS)
    assert run.tags == run_tags(FACTS)


def test_the_contract_is_the_run_s_dataset_and_a_file(server: FakeMlflow) -> None:
    started()
    (dataset,) = server.datasets
    assert dataset.dataset.name == "breast-cancer contract"
    assert "radius" in dataset.dataset.schema
    assert "radius" in server.texts["contract.yaml"]


def test_a_run_s_description_can_be_replaced(server: FakeMlflow) -> None:
    run_id = started()
    annotate_run(run_id, {"mlflow.note.content": "done"})
    assert server.runs[run_id].tags["mlflow.note.content"] == "done"
    assert server.runs[run_id].tags["purpose"] == "screening"


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
