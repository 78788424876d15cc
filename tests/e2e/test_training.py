"""One training of three rounds, seen from Prefect, MLflow, the database and the API."""

from __future__ import annotations

import io
import json
import pickletools
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from db.blobs import BlobStore
from db.queries import audit, messages
from db.session import transaction
from deployments.demo_data import LABEL, demo_model
from deployments.stack.services import NO_TELEMETRY
from privacy.plan import PrivacyPlan
from privacy.pricing import epsilon_by_round, price

pytestmark = pytest.mark.e2e

ROUNDS: Final = 3
TASKS_OF_A_ROUND: Final = {
    "open_round",
    "dispatch_training",
    "gather_masked_updates",
    "aggregate",
    "evaluate",
    "write_compliance_records",
    "log_to_mlflow",
}
FIGURES: Final = {"auc", "accuracy", "sensitivity", "specificity"}
PREDICT: Final = """
import json, sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/breast-cancer/1", dst_path=sys.argv[1])
rows = pd.concat([pd.read_csv(path) for path in sys.argv[2:]], ignore_index=True)
print(json.dumps(model.predict(rows)["score"].tolist()))
"""


@pytest.fixture(scope="module")
def rounds(stack: Any, training: dict[str, Any]) -> list[dict[str, Any]]:
    """The Prefect runs of the training's rounds, in their order."""
    parent = {"parent_flow_run_id": {"any_": [training["flow_run_id"]]}}
    return sorted(stack.prefect.rows("flow_runs", flow_runs=parent), key=lambda run: run["name"])


def test_the_training_is_a_completed_run_with_a_run_for_each_round(
    stack: Any, training: dict[str, Any], rounds: list[dict[str, Any]]
) -> None:
    run = stack.prefect.get(f"/flow_runs/{training['flow_run_id']}")
    assert stack.prefect.get(f"/flows/{run['flow_id']}")["name"] == "federated-training"
    assert (run["state_type"], run["work_pool_name"]) == ("COMPLETED", "coordinator")
    assert [(r["name"], r["state_type"]) for r in rounds] == [
        (f"round-{number}", "COMPLETED") for number in range(1, ROUNDS + 1)
    ]
    assert {stack.prefect.get(f"/flows/{r['flow_id']}")["name"] for r in rounds} == {
        "federated-round"
    }


@pytest.mark.parametrize("number", range(1, ROUNDS + 1))
def test_a_round_runs_each_of_its_tasks(
    stack: Any, rounds: list[dict[str, Any]], number: int
) -> None:
    of_round = {"id": {"any_": [rounds[number - 1]["id"]]}}
    tasks = stack.prefect.rows("task_runs", flow_runs=of_round)
    assert {task["name"].rpartition("-")[0] for task in tasks} >= TASKS_OF_A_ROUND
    assert {task["state_type"] for task in tasks} == {"COMPLETED"}


def test_each_hospital_runs_each_round_in_its_own_pool(
    stack: Any, training: dict[str, Any]
) -> None:
    runs = stack.runs_of(training["training_id"])
    closing = ROUNDS + 1
    assert sorted((run["name"], run["work_pool_name"]) for run in runs) == sorted(
        (f"{hospital}-round-{number}", hospital)
        for hospital in stack.folders
        for number in range(1, closing + 1)
    )
    assert {run["state_type"] for run in runs} == {"COMPLETED"}
    assert {stack.prefect.get(f"/flows/{run['flow_id']}")["name"] for run in runs} == {
        "hospital-round"
    }


def test_a_round_leaves_its_summary_its_progress_and_a_link(
    stack: Any, training: dict[str, Any], rounds: list[dict[str, Any]]
) -> None:
    key = f"training-{training['training_id'][:8]}"
    artifacts = stack.prefect.rows(
        "artifacts", artifacts={"flow_run_id": {"any_": [run["id"] for run in rounds]}}
    )
    of_key: dict[str, list[dict[str, Any]]] = {}
    for artifact in sorted(artifacts, key=lambda artifact: artifact["created"]):
        of_key.setdefault(artifact["key"], []).append(artifact)
    assert {name: {a["type"] for a in found} for name, found in of_key.items()} == {
        f"{key}-summary": {"markdown"},
        f"{key}-progress": {"progress"},
        f"{key}-mlflow": {"markdown"},
    }
    for shown, summary in zip(training["rounds"], of_key[f"{key}-summary"], strict=True):
        table = _rows_of_hospitals(summary["data"])
        assert {hospital: state for hospital, (state, _) in table.items()} == {
            hospital: "revealed" for hospital in stack.folders
        }
        assert all(0 < seconds < shown["seconds"] for _, seconds in table.values())
    # The closing evaluation leaves the training where the last round has brought it.
    percent = [float(artifact["data"]) for artifact in of_key[f"{key}-progress"]]
    assert percent == pytest.approx([100 / 3, 200 / 3, 100, 100])
    assert all(
        f"/runs/{training['mlflow_run_id']}" in artifact["data"]
        for artifact in of_key[f"{key}-mlflow"]
    )


def _rows_of_hospitals(markdown: str) -> dict[str, tuple[str, float]]:
    """State and seconds by hospital, from a round's summary."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines()]
    return {row[0]: (row[1], float(row[2])) for row in rows if row and "hospital-" in row[0]}


def test_the_deployments_are_registered_and_the_schedule_is_off(stack: Any) -> None:
    stack.prefect.get("/deployments/name/federated-training/federated-training")
    by_round = stack.prefect.get("/deployments/name/federated-round/federated-round")
    (nightly,) = by_round["schedules"]
    assert (nightly["slug"], nightly["active"]) == ("nightly", False)
    assert nightly["schedule"]["cron"] == "0 2 * * *"
    for hospital in stack.folders:
        own = stack.prefect.get(f"/deployments/name/hospital-round/{hospital}")
        assert own["work_pool_name"] == hospital


def test_mlflow_has_one_run_with_a_figure_for_each_number_of_rounds(
    stack: Any, training: dict[str, Any]
) -> None:
    tagged = f"tags.training_id = '{training['training_id']}'"
    experiment = stack.mlflow.get("/experiments/get-by-name", experiment_name="breast-cancer")
    search = {"experiment_ids": [experiment["experiment"]["experiment_id"]], "filter": tagged}
    (run,) = stack.mlflow.call("POST", "/runs/search", json=search)["runs"]
    assert (run["info"]["run_id"], run["info"]["status"]) == (training["mlflow_run_id"], "FINISHED")
    params = {param["key"]: param["value"] for param in run["data"]["params"]}
    plan = training["plan"]
    assert params["rounds"] == str(ROUNDS)
    assert (params["strategy"], params["recipe"]) == ("averaged", "linear")
    assert params["plan.noise_multiplier"] == str(plan["noise_multiplier"])
    assert params["plan.clip_norm"] == str(plan["clip_norm"])

    def history(name: str) -> list[tuple[int, float]]:
        asked = {"run_id": training["mlflow_run_id"], "metric_key": name}
        metrics = stack.mlflow.get("/metrics/get-history", **asked)["metrics"]
        return sorted({(int(metric["step"]), metric["value"]) for metric in metrics})

    for name in FIGURES:
        measured = [r["metrics"].get(name) for r in training["rounds"]]
        told = [(step, value) for step, value in enumerate(measured) if value is not None]
        assert history(name) == told  # the steps that were evaluated, all as the API says
        assert told[-1][0] == ROUNDS
    spent = [r["epsilon"] for r in training["rounds"] if r["kind"] == "training"]
    assert history("epsilon") == list(enumerate(spent, start=1))


def test_mlflow_has_the_plots_as_pictures(stack: Any, training: dict[str, Any]) -> None:
    asked = {"run_id": training["mlflow_run_id"], "path": "plots"}
    files = stack.mlflow.get("/artifacts/list", **asked)["files"]
    assert {file["path"] for file in files} == {
        f"plots/{name}.png"
        for name in ("roc", "precision_recall", "reliability", "auc", "accuracy", "epsilon")
    }
    pictures = [path.read_bytes() for path in (stack.settings.home / "mlflow").rglob("*.png")]
    assert all(picture.startswith(b"\x89PNG\r\n") for picture in pictures)
    assert len(pictures) >= len(files)


def test_the_registered_model_predicts_the_rows_of_the_demo(
    stack: Any, training: dict[str, Any], tmp_path: Path
) -> None:
    version = stack.mlflow.get("/model-versions/get", name="breast-cancer", version="1")
    assert version["model_version"]["run_id"] == training["mlflow_run_id"]
    assert training["model_version"] == "1"
    tables = [stack.table(hospital) for hospital in stack.folders]
    # In a process of its own, as the scientist who takes the model home.
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, str(tmp_path), *map(str, tables)],
        env={**stack.environment, **NO_TELEMETRY, "MLFLOW_TRACKING_URI": stack.settings.mlflow_url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    labels = pd.concat([pd.read_csv(table)[LABEL] for table in tables])
    assert len(labels) == 569
    assert roc_auc_score(labels, json.loads(done.stdout)) > 0.8
    loaded = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"MLmodel", "weights.safetensors", "spec.json"} <= loaded


def test_nothing_that_mlflow_keeps_is_a_pickle(stack: Any) -> None:
    kept = [path for path in (stack.settings.home / "mlflow").rglob("*") if path.is_file()]
    assert any(path.name == "weights.safetensors" for path in kept)
    assert not [path for path in kept if path.suffix in (".pkl", ".pickle", ".joblib", ".pt")]
    assert not [path for path in kept if _may_be_a_pickle(path.read_bytes())]


@pytest.mark.parametrize("pickled", [b"N.", b"\x80\x04N.", b"\x80\x04\x8c\x08builtins"])
def test_a_pickle_would_be_seen(pickled: bytes) -> None:
    assert _may_be_a_pickle(pickled)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("data.pkl", pickled)
    assert _may_be_a_pickle(packed.getvalue())


def _may_be_a_pickle(content: bytes) -> bool:
    """By the marker of protocol 2 and later, as a program that fits, or as PyTorch's archive."""
    if zipfile.is_zipfile(io.BytesIO(content)) or content[:1] == b"\x80":
        return True
    try:
        pickletools.dis(content, out=io.StringIO())
    except (ValueError, IndexError):
        return False  # no opcodes, or a stack that does not fit
    return True


def test_the_audit_record_is_whole_and_tells_who_did_what_in_each_round(
    stack: Any, training: dict[str, Any]
) -> None:
    with transaction(stack.database("fedmed")) as session:
        assert audit.verify_chain(session) > 0
        records = {
            shown["number"]: audit.list_events(session, subject=f"round:{shown['round_id']}")
            for shown in training["rounds"]
        }
    for shown in training["rounds"]:
        (record,) = records[shown["number"]]
        assert (record.actor, record.action) == ("coordinator", "round.completed")
        assert record.details["training"] == training["training_id"]
        assert record.details["model"] == "breast-cancer"
        assert record.details["hospitals"] == dict.fromkeys(stack.folders, "revealed")
        assert record.details["plan"] == training["plan"]
        assert record.details["epsilon"] == shown["epsilon"]
        assert record.details["outcome"] == "completed"
    details = [records[number][0].details for number in sorted(records)]
    assert len({d["incoming_weights"] for d in details}) == ROUNDS + 1
    for earlier, later in pairwise(details):
        assert earlier["outgoing_weights"] == later["incoming_weights"]
    assert details[-1]["outgoing_weights"] is None  # the closing evaluation makes no weights


@pytest.mark.parametrize("kind", ["enrolment", "cohort", "upload", "survivors", "reveal"])
def test_a_message_is_gone_and_its_digest_stays(
    stack: Any, training: dict[str, Any], kind: Any
) -> None:
    blobs = BlobStore(stack.settings.artifacts_url)
    with transaction(stack.database("fedmed")) as session:
        for shown in training["rounds"]:
            round_id = shown["round_id"]
            posted = messages.list_messages(session, round_id=round_id, kind=kind)
            assert {message.hospital_id for message in posted} == set(stack.folders)
            assert not [m.hospital_id for m in posted if blobs.exists(m.digest)]
            # The invitations are no secret: they show that this store is the one.
            dispatched = messages.list_messages(session, round_id=round_id, kind="dispatch")
            assert all(blobs.exists(message.digest) for message in dispatched)


def test_the_api_tells_the_same_of_a_round_wherever_it_is_asked(
    stack: Any, training: dict[str, Any]
) -> None:
    for shown in training["rounds"]:
        status = stack.api.get(f"/training/status/{shown['round_id']}")
        assert status.pop("round") == shown
        assert status == {name: training[name] for name in status}
    metrics = stack.api.get("/metrics/breast-cancer")
    assert metrics["trainings"][-1] == training
    assert metrics["model"]["spec"] == demo_model().model_dump(mode="json")


def test_epsilon_is_what_the_plan_costs_and_stays_under_what_was_asked(
    training: dict[str, Any],
) -> None:
    plan = PrivacyPlan.model_validate(training["plan"])
    spent = [r["epsilon"] for r in training["rounds"] if r["kind"] == "training"]
    assert tuple(spent) == pytest.approx(epsilon_by_round(plan))
    assert spent == sorted(set(spent))
    assert training["epsilon"] == pytest.approx(price(plan).epsilon)
    assert training["epsilon"] <= 8.0
    assert training["epsilon_spent"] == spent[-1] == training["rounds"][-1]["epsilon"]
    assert {r["delta"] for r in training["rounds"]} == {plan.delta} == {1e-5}
