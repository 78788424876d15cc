"""The model card: the headings of Mitchell et al. 2019, and nothing that it does not know."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from typing import Any

from fl.model_card import CardFacts, model_card
from fl.spec import ModelSpec
from privacy.plan import PrivacyPlan


def spec(**contract: Any) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": "breast-cancer",
            "description": "Of fine needle aspirates.",
            "architecture": {"kind": "logistic"},
            "contract": {
                "columns": [
                    {"name": "radius", "minimum": 0, "maximum": 30, "unit": "mm"},
                    {"kind": "category", "name": "sex", "categories": ["f", "m"]},
                ],
                "label": {"name": "diagnosis", "negative": "benign", "positive": "malignant"},
                **contract,
            },
        }
    )


PLAN = PrivacyPlan(
    clip_norm=0.25,
    noise_multiplier=3.5,
    sampling_rate=1,
    expected_batch_size=128,
    evaluation_noise_multiplier=4,
    steps_per_round=1,
    rounds=30,
    delta=1e-5,
)
FACTS = CardFacts(
    made_on=date(2026, 1, 2),
    training_id="6f1c1c1e-0000-4000-8000-000000000001",
    model_version=3,
    requested_by="ada",
    purpose="screening",
    strategy="averaged (step 6.0)",
    rounds=30,
    hospitals=5,
    least_cohort=4,
    plan=PLAN,
    epsilon=7.987,
    threshold=0.5,
    figures={"auc": 0.98, "auc_low": 0.95, "auc_high": 0.99, "accuracy": 0.93},
    records=142,
    positives=53,
    code_hash="c" * 64,
    package_version="0.1.0",
)


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n\n")[1].split("\n\n## ")[0]


def test_it_has_the_headings_in_their_order() -> None:
    assert re.findall(r"^## (.*)$", model_card(spec(), FACTS), re.MULTILINE) == [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Privacy",
        "Caveats and recommendations",
    ]


def test_figures_carry_their_interval() -> None:
    card = model_card(spec(), FACTS)
    assert "| auc | 0.98 (0.950 to 0.990) |" in card
    assert "auc_low" not in card
    assert "No interval" not in card
    assert "No interval" in model_card(spec(), replace(FACTS, figures={"auc": 0.98}))


def test_public_figures_stand_beside_the_noised_ones() -> None:
    public = replace(FACTS, public_test="d" * 64, public={"auc": 0.97, "brier": 0.1})
    metrics = section(model_card(spec(), public), "Metrics")
    assert "| auc | 0.98 (0.950 to 0.990) | 0.97 |" in metrics
    assert "| accuracy | 0.93 |  |" in metrics
    assert "| brier |  | 0.1 |" in metrics
    assert "d" * 64 in model_card(spec(), public)


def test_privacy_names_the_unit_and_against_whom_the_noise_holds() -> None:
    local = section(model_card(spec(), FACTS), "Privacy")
    assert "| epsilon | 7.987 at delta 1e-05 |" in local
    assert "| protected unit | a record |" in local
    assert "against the coordinator and all other hospitals together" in local
    shared = replace(FACTS, plan=PLAN.model_copy(update={"noise_shares": 3}))
    text = section(model_card(spec(patient="case"), shared), "Privacy")
    assert "| protected unit | a patient, with all records |" in text
    assert "by 3 honest hospitals" in text
    assert "the coordinator together with 1 of 5 hospitals" in text


def test_training_data_is_the_contract_and_no_count() -> None:
    text = section(model_card(spec(), FACTS), "Training data")
    assert "| radius | number | 0 to 30 mm | refuse |" in text
    assert "| sex | category | f, m | refuse |" in text
    assert "how many there were is not known here" in text
    assert "about 142 together, 53 of them positive" in model_card(spec(), FACTS)


def test_subgroups_are_compared_when_they_were_measured() -> None:
    by_sex = spec(subgroups=[{"name": "sex", "groups": ["f", "m"]}])
    assert "No figures by group" in section(model_card(by_sex, FACTS), "Factors")
    measured = replace(FACTS, subgroups={"sex: f": {"auc": 0.97}, "sex: m": {"accuracy": 0.9}})
    factors = section(model_card(by_sex, measured), "Factors")
    assert "| sex: f |  | 0.97 |" in factors
    assert "| sex: m | 0.9 |  |" in factors


def test_names_from_outside_open_no_markup() -> None:
    hostile = spec(columns=[{"name": "a|b`<script>", "minimum": 0, "maximum": 1}])
    card = model_card(hostile, FACTS)
    assert "| a\\|b'&lt;script> | number |" in card


def test_images_are_described_by_their_size() -> None:
    images = ModelSpec.model_validate(
        {
            "name": "m",
            "architecture": {"kind": "hog-logistic"},
            "contract": {"images": {"height": 28, "width": 32}, "label": {"name": "ill"}},
        }
    )
    assert "Images of 28 × 32 pixels, 1 channel(s)" in model_card(images, FACTS)
