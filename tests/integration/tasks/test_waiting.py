"""For what a training waits: what its last round's hospitals have refused it for."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from db.queries import participations
from db.session import transaction
from tasks.errors import HospitalRefused
from tasks.waiting import waits_for

pytestmark = pytest.mark.integration


def failed_round(consortium: Any, training_id: UUID, **codes: str) -> None:
    """Runs a round in which hospitals refuse under these codes."""
    for hospital in consortium.hospitals.values():
        code = codes.get(hospital.hospital_id)
        refusal = json.dumps({"code": code, "reason": "r"}).encode()
        hospital.refuses = {} if code is None else {"enrolment": refusal}
    opened = consortium.open(training_id)
    with pytest.raises(HospitalRefused):
        consortium.gather(opened)
    consortium.fail(opened)


@pytest.mark.parametrize("code", ["awaiting-approval", "policy-hours"])
def test_a_round_that_was_refused_until_people_or_hours_waits(consortium: Any, code: str) -> None:
    training_id = consortium.add_training()
    assert waits_for(consortium.coordinator, training_id) is None
    failed_round(consortium, training_id, north=code)
    assert waits_for(consortium.coordinator, training_id) == f"north {code}"


@pytest.mark.parametrize("code", ["stopped", "policy-epsilon", "approval-revoked", "crashed"])
def test_a_round_that_was_refused_for_something_else_does_not(consortium: Any, code: str) -> None:
    training_id = consortium.add_training()
    failed_round(consortium, training_id, north=code)
    assert waits_for(consortium.coordinator, training_id) is None


def test_the_last_round_counts(consortium: Any) -> None:
    training_id = consortium.add_training()
    failed_round(consortium, training_id, north="crashed")
    failed_round(consortium, training_id, west="awaiting-approval")
    assert waits_for(consortium.coordinator, training_id) == "west awaiting-approval"
    failed_round(consortium, training_id, west="crashed")
    assert waits_for(consortium.coordinator, training_id) is None


def test_another_hospital_that_was_lost_is_a_failure(consortium: Any) -> None:
    training_id = consortium.add_training()
    opened = consortium.open(training_id)
    with transaction(consortium.engine) as session:
        for hospital_id, state, code in (
            ("north", "refused", "awaiting-approval"),
            ("west", "lost", "silent"),
        ):
            participations.set_participation(
                session,
                round_id=opened.round_id,
                hospital_id=hospital_id,
                state=state,  # type: ignore[arg-type]
                reason_code=code,
                now=consortium.coordinator.now(),
            )
    consortium.fail(opened)
    assert waits_for(consortium.coordinator, training_id) is None
