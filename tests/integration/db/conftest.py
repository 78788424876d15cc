from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import Engine

from db.queries import hospitals, models, rounds, trainings
from db.session import transaction

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def three_hospitals(engine: Engine, keys_of: Callable[[str], dict[str, str]]) -> tuple[str, ...]:
    """Three active hospitals with keys, by id."""
    ids = ("east", "north", "west")
    with transaction(engine) as session:
        for hospital_id in ids:
            hospitals.add_hospital(session, hospital_id=hospital_id, name=hospital_id.title())
            hospitals.publish_identity(session, hospital_id=hospital_id, **keys_of(hospital_id))
    return ids


@pytest.fixture
def training_id(engine: Engine) -> UUID:
    """A running training of two rounds; no hospitals."""
    with transaction(engine) as session:
        model = models.add_model(session, name="breast-cancer", spec={"architecture": "mlp"})
        training = trainings.add_training(
            session,
            model_id=model.id,
            rounds=2,
            strategy={"kind": "fedavg"},
            plan={"clip_norm": 1.0},
            epsilon=8.0,
            delta=1e-5,
            least_cohort=3,
            round_deadline_s=60.0,
            requested_by="operator",
        )
        trainings.start_training(
            session, training_id=training.id, weights="0" * 64, mlflow_run_id="run-1"
        )
        return training.id


@pytest.fixture
def open_round(engine: Engine, training_id: UUID) -> Callable[[], UUID]:
    """Opens the training's next round and returns its id."""

    def opener() -> UUID:
        with transaction(engine) as session:
            return rounds.open_round(
                session,
                training_id=training_id,
                kind="training",
                incoming_weights="0" * 64,
                flow_run_id="flow-1",
                now=NOW,
            ).id

    return opener


@pytest.fixture
def round_id(three_hospitals: tuple[str, ...], open_round: Callable[[], UUID]) -> UUID:
    """An open round with three hospitals."""
    return open_round()
