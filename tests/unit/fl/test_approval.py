"""The terms of an approval and the text that is signed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.approval import ApprovalTerms, statement
from privacy.plan import PrivacyPlan

PLAN: Final = PrivacyPlan(
    clip_norm=0.5,
    noise_multiplier=1.0,
    sampling_rate=0.5,
    expected_batch_size=16,
    evaluation_noise_multiplier=4.0,
    steps_per_round=2,
    rounds=10,
    delta=1e-5,
)
TERMS: Final = ApprovalTerms(
    hospital_id="north",
    training_id=UUID(int=1),
    model="breast-cancer",
    code_hash="c" * 64,
    purpose="care",
    plan=PLAN,
    dataset="d" * 64,
)
NOW: Final = datetime(2026, 1, 2, tzinfo=UTC)
CHANGES: Final[dict[str, Any]] = {
    "hospital_id": "south",
    "training_id": UUID(int=2),
    "model": "sepsis",
    "code_hash": "e" * 64,
    "purpose": "research",
    "plan": PLAN.model_copy(update={"rounds": 11}),
    "dataset": "f" * 64,
}


def test_every_term_is_in_the_signed_text_and_named_when_it_differs() -> None:
    assert CHANGES.keys() == ApprovalTerms.model_fields.keys()
    assert TERMS.differing(TERMS) == []
    for name, value in CHANGES.items():
        other = TERMS.model_copy(update={name: value})
        assert len(TERMS.differing(other)) == 1
        assert statement(other.canonical(), NOW) != statement(TERMS.canonical(), NOW)


@given(st.floats(0.3, 1000), st.floats(1e-12, 1e-3))
def test_terms_are_read_back_from_their_text_to_the_last_bit(noise: float, delta: float) -> None:
    plan = PLAN.model_copy(update={"noise_multiplier": noise, "delta": delta})
    terms = TERMS.model_copy(update={"plan": plan})
    again = ApprovalTerms.model_validate_json(terms.canonical())
    assert again.differing(terms) == []
    assert again.canonical() == terms.canonical()


def test_the_time_is_signed_as_such_in_whichever_zone_it_is_written() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=5)))
    assert statement("{}", there) == statement("{}", NOW)
    assert statement("{}", NOW + timedelta(microseconds=1)) != statement("{}", NOW)
    with pytest.raises(ValueError, match="has no time zone"):
        statement("{}", NOW.replace(tzinfo=None))
