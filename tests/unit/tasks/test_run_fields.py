"""Runs have the same columns, whatever was trained and however."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from fl.code_hash import model_code_hash
from fl.spec import ModelSpec
from privacy.plan import PrivacyPlan
from tasks.run_fields import (
    NOTE_TAG,
    TrainingFacts,
    package_version,
    run_params,
    run_tags,
    strategy_in_words,
)

COLUMNS = {
    "columns": [{"name": "radius", "minimum": 0, "maximum": 30}],
    "label": {"name": "malignant"},
}
IMAGES = {"images": {"height": 28, "width": 28}, "label": {"name": "malignant"}}


def spec(architecture: dict[str, Any], contract: dict[str, Any]) -> ModelSpec:
    return ModelSpec.model_validate(
        {"name": "m", "architecture": architecture, "contract": contract}
    )


FACTS = TrainingFacts(
    training_id=UUID("6f1c1c1e-0000-4000-8000-000000000001"),
    spec=spec({"kind": "mlp", "hidden": [64, 32]}, COLUMNS),
    model_version=2,
    purpose="screening",
    requested_by="ada",
    recipe="",
    strategy={"kind": "fedadam"},
    plan=PrivacyPlan(
        clip_norm=1,
        noise_multiplier=2,
        noise_shares=2,
        sampling_rate=1,
        expected_batch_size=32,
        evaluation_noise_multiplier=4,
        steps_per_round=1,
        rounds=3,
        delta=1e-5,
    ),
    epsilon=2,
    least_cohort=4,
    hospitals=5,
)


def test_what_was_set_is_flat_and_typed() -> None:
    params = run_params(FACTS)
    assert (
        params.items()
        >= {
            "architecture": "mlp",
            "architecture.hidden": "64,32",
            "architecture.standardise": "true",
            "strategy": "fedadam",
            "strategy.eta": "0.01",  # a default is a value too
            "plan.clip_norm": "1.0",  # a float, however it was written
            "plan.expected_batch_size": "32",
            "recipe": "none",
            "public_test": "none",
            "hyperparameters.noise_limit": "none",
        }.items()
    )


@pytest.mark.parametrize(
    ("architecture", "contract"),
    [
        ({"kind": "logistic"}, COLUMNS),
        ({"kind": "hog-logistic", "grid": 3}, IMAGES),
        ({"kind": "custom", "entry_point": "own", "arguments": {"a": 1}}, IMAGES),
    ],
)
def test_runs_of_all_architectures_share_their_other_columns(
    architecture: dict[str, Any], contract: dict[str, Any]
) -> None:
    def shared(facts: TrainingFacts) -> set[str]:
        return {name for name in run_params(facts) if not name.startswith("architecture.")}

    assert shared(replace(FACTS, spec=spec(architecture, contract))) == shared(FACTS)


def test_arguments_of_an_architecture_of_somebody_s_own_are_flat_too() -> None:
    custom = spec(
        {"kind": "custom", "entry_point": "own", "arguments": {"depth": 3, "skip": True}}, IMAGES
    )
    params = run_params(replace(FACTS, spec=custom))
    assert params["architecture.arguments.depth"] == "3"
    assert params["architecture.arguments.skip"] == "true"


def test_tags_say_who_what_for_and_which_code() -> None:
    tags = run_tags(FACTS)
    assert tags["training_id"] == "6f1c1c1e-0000-4000-8000-000000000001"
    assert (tags["purpose"], tags["requested_by"]) == ("screening", "ada")
    assert tags["code_hash"] == model_code_hash(FACTS.spec)
    assert tags["package_version"] == package_version()
    assert "epsilon up to 2 at delta 1e-05, noise shared by 2 hospitals" in tags[NOTE_TAG]


def test_a_strategy_in_words_leaves_out_what_is_not_set() -> None:
    assert strategy_in_words({"kind": "fedavg"}) == "fedavg"
    assert strategy_in_words({"kind": "averaged", "step": None, "average_from": 0.5}) == (
        "averaged (average_from 0.5)"
    )
