"""The model registry: versions that anybody can load, and the aliases that say which to load.

    mlflow.pyfunc.load_model("models:/breast-cancer@champion").predict(frame)

A version holds the weights as safetensors and the specification as JSON; the code comes from the
installed package, and no pickle is written. ``@challenger`` is the newest version; ``@champion``
moves only as `fl.champion` says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient
from prefect import task
from prefect.cache_policies import NO_CACHE

from db.locks import CHAMPION, hold
from db.queries import audit
from db.session import transaction
from fl.champion import Contender, Decision, decide
from fl.weights import Weights
from tasks.apart import run_apart
from tasks.closing import Closing
from tasks.coordinator import COORDINATOR_ACTOR, Coordinator
from tasks.models import ModelToLog, logged_model
from tasks.public import evaluate_export

CHAMPION_ALIAS: Final = "champion"
CHALLENGER_ALIAS: Final = "challenger"
CARD_PATH: Final = "MODEL_CARD.md"


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A version in MLflow's registry."""

    name: str
    version: str

    @property
    def uri(self) -> str:
        """URI under which ``mlflow.pyfunc.load_model`` loads it."""
        return f"models:/{self.name}/{self.version}"


@task(name="register_model", cache_policy=NO_CACHE, persist_result=False)
def register_model(run_id: str, weights: Weights, closing: Closing) -> RegisteredModel:
    """Logs the pictures, the card and the model, and registers it under its name.

    A run registers one version: repeating it after a crash logs nothing twice.
    """
    client, spec = MlflowClient(), closing.served_spec
    version = _version_of(client, run_id)
    if version is None:
        card = closing.card()
        for path, figure in closing.pictures().items():
            client.log_figure(run_id, figure, path)
        client.log_text(run_id, card, CARD_PATH)
        model = ModelToLog(
            run_id=run_id,
            spec=spec,
            weights=weights,
            card=card,
            metrics=closing.metrics(),
            step=closing.training.completed,
        )
        version = run_apart(logged_model, model)
    client.update_registered_model(spec.name, spec.description)
    client.update_model_version(spec.name, version, closing.describe())
    _tag(client, spec.name, version, closing.version_tags())
    return RegisteredModel(spec.name, version)


def _version_of(client: MlflowClient, run_id: str) -> str | None:
    """The version that a run has registered, if it has."""
    found = client.search_model_versions(f"run_id='{run_id}'")
    return str(found[0].version) if found else None


@task(name="choose_champion", cache_policy=NO_CACHE, persist_result=False)
def choose_champion(
    coordinator: Coordinator, registered: RegisteredModel, closing: Closing
) -> Decision:
    """Makes a new version the champion if it is better, and the challenger if it is not.

    The decision and its reason are recorded in the version's tags and description and in the audit
    record. Two trainings of one model that end together wait for each other.
    """
    client, new = MlflowClient(), closing.contender(registered.version)
    with transaction(coordinator.engine) as session:
        hold(session, CHAMPION, registered.name)
        present = _champion(client, registered.name)
        if present is not None and present.version == new.version:
            decision = Decision(True, f"version {new.version} is the champion already")
        else:
            present = _scored_alike(coordinator, client, registered.name, new, present)
            decision = decide(new, present, margin=coordinator.champion_margin)
        _set_aliases(client, registered, decision)
        tags = {"champion_decision": "moved" if decision.moves else "stayed"}
        _tag(client, registered.name, new.version, {**tags, "champion_reason": decision.reason})
        client.update_model_version(
            registered.name, new.version, f"{closing.describe()}\n\nChampion: {decision.reason}"
        )
        audit.append_event(
            session,
            actor=COORDINATOR_ACTOR,
            action="model.champion",
            subject=f"model:{closing.training.model_id}",
            details={
                "name": registered.name,
                "registry_version": new.version,
                "training": str(closing.training.training_id),
                "champion_before": None if present is None else present.version,
                "moved": decision.moves,
                "reason": decision.reason,
            },
            now=coordinator.now(),
        )
    return decision


def _champion(client: MlflowClient, name: str) -> Contender | None:
    """The present champion as its tags describe it."""
    version = client.get_registered_model(name).aliases.get(CHAMPION_ALIAS)
    return None if version is None else _contender(client.get_model_version(name, str(version)))


def _contender(version: ModelVersion) -> Contender:
    tags: Mapping[str, str] = version.tags
    return Contender(
        version=str(version.version),
        purpose=tags.get("purpose", ""),
        contract=tags.get("data_contract", ""),
        auc=_number(tags.get("auc")),
        public_test=tags.get("public_test") or None,
        public_auc=_number(tags.get("public_auc")),
    )


def _scored_alike(
    coordinator: Coordinator,
    client: MlflowClient,
    name: str,
    new: Contender,
    champion: Contender | None,
) -> Contender | None:
    """Scores the champion on the new version's public test set, where it was not yet."""
    digest = new.public_test
    if champion is None or digest is None or digest == champion.public_test:
        return champion
    if (new.purpose, new.contract) != (champion.purpose, champion.contract):
        return champion
    with tempfile.TemporaryDirectory() as directory:
        uri = f"models:/{name}/{champion.version}"
        mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=directory)
        (spec_file,) = Path(directory).rglob("spec.json")
        scored = evaluate_export(coordinator, digest, spec_file.parent)
    if (auc := scored.metrics.get("auc")) is None:
        return champion
    tags = {f"public_{figure}": repr(value) for figure, value in scored.metrics.items()}
    _tag(client, name, champion.version, {**tags, "public_test": digest})
    return replace(champion, public_test=digest, public_auc=auc)


def _set_aliases(client: MlflowClient, registered: RegisteredModel, decision: Decision) -> None:
    name, version = registered.name, registered.version
    client.set_registered_model_alias(name, CHALLENGER_ALIAS, version)
    if decision.moves:
        client.set_registered_model_alias(name, CHAMPION_ALIAS, version)
        client.delete_registered_model_alias(name, CHALLENGER_ALIAS)


def _tag(client: MlflowClient, name: str, version: str, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
