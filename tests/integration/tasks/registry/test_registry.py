"""The model registry on a real MLflow store: what is registered, loaded, and moved to champion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import convert_input_example_to_serving_input, validate_serving_input
from mlflow.tracking import MlflowClient

from db.queries import audit
from db.session import transaction
from fl import public_test
from fl.contract_file import contract_hash
from fl.spec import ModelSpec
from fl.weights import Weights
from tasks.closing import Closing
from tasks.coordinator import Coordinator
from tasks.registry import RegisteredModel, choose_champion, register_model

pytestmark = [
    pytest.mark.integration,
    # What MLflow itself warns of is not ours to mend.
    pytest.mark.filterwarnings("ignore"),
]

FRAME = pd.DataFrame({"age": [40, 60, 50], "note": ["a", "b", "c"], "radius": [5, 25, 16]})
PUBLIC = b"radius,age,malignant\n5,40,no\n25,60,yes\n16,50,no\n20,50,yes\n"


def aliases(client: MlflowClient, spec: ModelSpec) -> dict[str, str]:
    return {name: str(v) for name, v in client.get_registered_model(spec.name).aliases.items()}


def test_the_table_of_runs_shows_what_was_set_and_what_it_came_to(
    client: MlflowClient,
    spec: ModelSpec,
    closing: Callable[..., Closing],
    run_of: Callable[[Closing], str],
    radius_alone: Weights,
) -> None:
    ended = closing(spec)
    run_id = run_of(ended)
    register_model.fn(run_id, radius_alone, ended)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {
        **{"auc": 0.9, "accuracy": 0.9, "sensitivity": 0.8, "specificity": 1.0},
        **{"epsilon": 1.5, "delta": 1e-5, "rounds_trained": 2.0, "held_out": 20.0},
    }
    expected = {
        "rounds": "2",
        "recipe": "linear",
        "hospitals": "4",
        "architecture": "logistic",
        "architecture.standardise": "false",
        "strategy": "fedavgm",
        "strategy.server_momentum": "0.5",
        "strategy.server_learning_rate": "1.0",
        "hyperparameters.noise_limit": "none",
        "plan.noise_multiplier": "1.0",
        "plan.epsilon": "2.0",
        "data_contract": contract_hash(spec.contract),
    }
    assert run.data.params.items() >= expected.items()
    assert run.data.tags["purpose"] == "research"
    assert run.data.tags["mlflow.user"] == "ada"
    assert len(run.data.tags["code_hash"]) == 64
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.digest == contract_hash(spec.contract)[:36]
    schema = json.loads(data.dataset.schema)["mlflow_colspec"]
    assert [(c["name"], c["type"]) for c in schema] == [
        ("radius", "double"),
        ("age", "long"),
        ("malignant", "string"),
    ]
    files = {f.path for f in client.list_artifacts(run_id)}
    assert files >= {"contract.yaml", "MODEL_CARD.md", "plots"}
    plots = {f.path for f in client.list_artifacts(run_id, "plots")}
    drawn = ("roc", "precision_recall", "reliability", "auc", "accuracy", "epsilon")
    assert plots == {f"plots/{name}.png" for name in drawn}


def test_a_version_says_what_it_is(
    client: MlflowClient,
    spec: ModelSpec,
    closing: Callable[..., Closing],
    registered: Callable[..., RegisteredModel],
) -> None:
    ended = closing(spec)
    model = registered(ended)
    version = client.get_model_version(model.name, model.version)
    assert version.description.startswith("2 rounds; on all hospitals' held-out rows auc 0.900")
    assert version.tags["auc"] == "0.9"
    assert version.tags["data_contract"] == contract_hash(spec.contract)
    assert client.get_registered_model(model.name).description == "A first try."


def test_a_run_registers_one_version_however_often(
    client: MlflowClient,
    spec: ModelSpec,
    closing: Callable[..., Closing],
    run_of: Callable[[Closing], str],
    radius_alone: Weights,
) -> None:
    ended = closing(spec)
    run_id = run_of(ended)
    first = register_model.fn(run_id, radius_alone, ended)
    assert register_model.fn(run_id, radius_alone, ended) == first
    assert len(client.search_model_versions(f"name='{spec.name}'")) == 1


def test_the_champion_is_loaded_by_its_alias_and_reads_raw_rows(
    close: Callable[..., Any], spec: ModelSpec, closing: Callable[..., Closing]
) -> None:
    close(closing(spec))
    uri = f"models:/{spec.name}@champion"
    model = mlflow.pyfunc.load_model(uri)
    # Whole numbers, text, columns in any order and more of them: as a file is read.
    for frame in (FRAME, FRAME.astype(str), FRAME.astype({"radius": float})):
        answer = model.predict(frame)
        assert list(answer["label"]) == ["no", "yes", "yes"]
        np.testing.assert_allclose(answer["score"][2], 1 / (1 + np.exp(-4 / 15)), rtol=1e-6)
    assert list(model.input_example.columns) == ["radius", "age"]
    # The way of a request to MLflow's model server.
    request = convert_input_example_to_serving_input(model.input_example)
    assert len(validate_serving_input(uri, request)) == 1
    assert model.metadata.signature.inputs.input_names() == ["radius", "age"]


def test_no_pickle_is_stored_and_none_is_read_in_a_process_of_its_own(
    close: Callable[..., Any],
    spec: ModelSpec,
    store: str,
    tmp_path: Path,
    closing: Callable[..., Closing],
) -> None:
    close(closing(spec))
    uri = f"models:/{spec.name}@champion"
    place = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(tmp_path)))
    files = [path for path in place.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert names >= {"MODEL_CARD.md", "contract.yaml", "spec.json", "weights.safetensors"}
    assert not [p for p in files if p.suffix in {".pkl", ".pickle", ".pt", ".pth", ".bin"}]
    assert not [p for p in files if p.read_bytes()[:1] == b"\x80"]  # how a pickle starts
    program = """
import pickle, sys, mlflow, pandas
import torch  # imported before the poison: what libraries unpickle of their own is not ours
def refuse(*_, **__):
    raise AssertionError("something was unpickled")
pickle.load = pickle.loads = pickle.Unpickler = pickle._Unpickler = refuse
import cloudpickle
cloudpickle.load = cloudpickle.loads = torch.load = refuse
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict(pandas.DataFrame({"age": [40, 60], "radius": [5, 25]})).label.tolist())
"""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, uri],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("['no', 'yes']"), done.stderr


def test_the_champion_moves_only_to_a_better_version(
    client: MlflowClient,
    close: Callable[..., Any],
    spec: ModelSpec,
    coordinator: Coordinator,
    closing: Callable[..., Closing],
) -> None:
    assert close(closing(spec, 0.9)).moves
    assert aliases(client, spec) == {"champion": "1"}
    assert not close(closing(spec, 0.902)).moves
    assert aliases(client, spec) == {"champion": "1", "challenger": "2"}
    assert not close(closing(spec, None)).moves
    assert not close(closing(spec, 0.99, purpose="screening")).moves
    assert aliases(client, spec) == {"champion": "1", "challenger": "4"}
    assert close(closing(spec, 0.95)).moves
    assert aliases(client, spec) == {"champion": "5"}

    second = client.get_model_version(spec.name, "2")
    assert second.tags["champion_decision"] == "stayed"
    assert "not better: AUC of the closing evaluation 0.9020 of version 2" in second.description
    with transaction(coordinator.engine) as session:
        events = audit.list_events(session, action="model.champion")
        assert [event.details["moved"] for event in events] == [True, False, False, False, True]
        assert events[-1].details["champion_before"] == "1"
        assert events[-1].details["reason"].startswith("better: ")


def test_deciding_again_changes_nothing(
    client: MlflowClient,
    spec: ModelSpec,
    coordinator: Coordinator,
    closing: Callable[..., Closing],
    registered: Callable[..., RegisteredModel],
) -> None:
    ended = closing(spec)
    model = registered(ended)
    assert choose_champion.fn(coordinator, model, ended).moves
    assert choose_champion.fn(coordinator, model, ended).moves
    assert aliases(client, spec) == {"champion": "1"}


def test_a_new_public_test_set_is_put_to_the_champion_too(
    client: MlflowClient,
    close: Callable[..., Any],
    spec: ModelSpec,
    coordinator: Coordinator,
    closing: Callable[..., Closing],
    radius_alone: Weights,
) -> None:
    # The champion looks at the age alone, and the wrong way round.
    age = {**radius_alone, "network.weight": np.array([[0.0, -4.0]], np.float32)}
    close(closing(spec, 0.99), age)
    digest = coordinator.blobs.put(PUBLIC)
    ended = closing(spec, 0.5, public_test=digest)
    scored = public_test.evaluate_public(spec, radius_alone, PUBLIC)
    decision = close(replace(ended, public=scored))
    assert decision.moves
    assert "AUC on the public test set 1.0000 of version 2" in decision.reason
    champion = client.get_model_version(spec.name, "1")
    assert (champion.tags["public_test"], champion.tags["public_auc"]) == (digest, "0.125")
    run = client.get_run(client.get_model_version(spec.name, "2").run_id)
    assert run.data.metrics["public_auc"] == 1.0
    plots = {f.path for f in client.list_artifacts(run.info.run_id, "plots")}
    assert "plots/public_roc.png" in plots
