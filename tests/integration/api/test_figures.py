"""What a training has measured on all hospitals together, for the hospitals invited to it."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from db.models import utc_now
from db.queries import hospitals, rounds
from db.queries.participations import set_participation
from db.session import transaction

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

COHORT = ("north", "south", "west")
METRICS = {"auc": 0.9, "auc_low": 0.8, "auc_high": 0.95}


async def figures(api: Any, training_id: UUID, hospital: str = "north") -> Any:
    return await api.client.get(
        f"/exchange/trainings/{training_id}/figures", headers=api.may(hospital=hospital)
    )


@pytest.fixture
async def training_id(api: Any) -> UUID:
    """A training of three hospitals whose one training round is completed."""
    opened = await api.open_round(*COHORT)
    with transaction(api.engine) as session:
        found = rounds.get_round(session, opened).training_id
    api.close(opened, state="completed", metrics={"auc": 0.1}, epsilon=0.5, delta=1e-5)
    return found


def evaluate(api: Any, training_id: UUID, *, weights: bytes = b"final", **how: Any) -> str:
    """Runs the closing evaluation, which one hospital does not finish; returns what it measured."""
    digest: str = api.blobs.put(weights)
    with transaction(api.engine) as session:
        opened = rounds.open_round(
            session,
            training_id=training_id,
            kind="evaluation",
            incoming_weights=digest,
            flow_run_id=None,
            now=utc_now(),
        ).id
        for name in COHORT[:2]:
            for state in ("enrolled", "uploaded", "revealed"):
                set_participation(
                    session, round_id=opened, hospital_id=name, state=state, now=utc_now()
                )
    api.close(opened, **how)
    return digest


async def test_before_the_closing_evaluation_there_are_none(api: Any, training_id: UUID) -> None:
    answer = await figures(api, training_id)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "training_id": str(training_id),
        "model": "breast-cancer",
        "version": 1,
        "state": "running",
        "epsilon": None,
        "delta": None,
        "weights": None,
        "metrics": {},
        "hospitals": None,
        "closed_at": None,
    }


async def test_they_are_those_of_the_completed_closing_evaluation(
    api: Any, training_id: UUID
) -> None:
    evaluate(api, training_id, state="failed", reason="lost", metrics={"auc": 0.2})
    digest = evaluate(
        api, training_id, state="completed", metrics=METRICS, epsilon=0.75, delta=1e-5
    )
    before = api.contents()
    found = (await figures(api, training_id)).json()
    assert found["closed_at"] is not None
    assert (found["metrics"], found["weights"], found["hospitals"]) == (METRICS, digest, 2)
    assert (found["epsilon"], found["delta"]) == (0.75, 1e-5)
    assert api.contents() == before


async def test_a_hospital_that_was_not_invited_cannot_tell_that_there_is_such_a_training(
    api: Any, training_id: UUID
) -> None:
    await api.add_hospital("late")
    of_others = await figures(api, training_id, "late")
    of_none = await figures(api, uuid4(), "late")
    for answer in (of_others, of_none):
        assert answer.status_code == 404
        assert answer.json()["type"] == "/problems/unknown-training"


async def test_a_suspended_hospital_does_not_see_them(api: Any, training_id: UUID) -> None:
    with transaction(api.engine) as session:
        hospitals.set_hospital_state(session, hospital_id="north", state="suspended")
    assert (await figures(api, training_id)).status_code == 403
