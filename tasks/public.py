"""Scoring public test sets at the coordinator, in processes of their own (`tasks.apart`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from db.errors import BlobCorrupt, BlobMissing
from fl import public_test
from fl.errors import ContractViolation, ModelError
from fl.public_test import PublicEvaluation
from fl.weights import decode_weights
from tasks.apart import run_apart
from tasks.coordinator import Coordinator
from tasks.training import TrainingProgress


@task(name="evaluate_public", cache_policy=NO_CACHE, persist_result=False)
def evaluate_public(
    coordinator: Coordinator, training: TrainingProgress
) -> PublicEvaluation | None:
    """Scores the weights a training stands at on its model's public test set; None without one.

    A set that cannot be used leaves an evaluation without figures, which says why: what the
    training has cost the patients is spent, and its model is registered all the same.
    """
    if training.public_test is None:
        return None
    weights = decode_weights(coordinator.blobs.get(training.weights))
    return _scored(
        coordinator,
        training.public_test,
        lambda data: run_apart(public_test.evaluate_public, training.spec, weights, data),
    )


def evaluate_export(coordinator: Coordinator, digest: str, directory: Path) -> PublicEvaluation:
    """Scores an exported model on a public test set."""
    return _scored(
        coordinator,
        digest,
        lambda data: run_apart(public_test.evaluate_public_export, directory, data),
    )


def _scored(
    coordinator: Coordinator, digest: str, score: Callable[[bytes], PublicEvaluation]
) -> PublicEvaluation:
    try:
        return score(coordinator.blobs.get(digest))
    except (BlobMissing, BlobCorrupt, ContractViolation, ModelError) as error:
        return PublicEvaluation(problem=f"public test set {digest[:12]}: {error}")
