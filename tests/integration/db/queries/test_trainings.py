from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.errors import Conflict, NotFound
from db.models import Training
from db.queries import models, rounds, trainings
from db.session import transaction

pytestmark = pytest.mark.integration

REQUEST = {
    "rounds": 3,
    "strategy": {"kind": "fedavg"},
    "plan": {"clip_norm": 1.0},
    "epsilon": 7.9,
    "delta": 1e-5,
    "least_cohort": 3,
    "round_deadline_s": 60.0,
    "requested_by": "ada",
}


def add(session: Session, **changes: object) -> Training:
    model = models.add_model(session, name=f"model-{uuid4()}", spec={})
    return trainings.add_training(session, model_id=model.id, **{**REQUEST, **changes})  # type: ignore[arg-type]


def test_a_new_training_waits_with_its_first_round(session: Session) -> None:
    training = add(session)

    assert (training.state, training.weights, training.requested_by) == ("pending", None, "ada")
    (first,) = rounds.list_rounds(session, training.id)
    assert (first.number, first.kind, first.state) == (1, "training", "pending")


def test_it_starts_once(session: Session) -> None:
    training = add(session)
    for run in ("first", "second"):
        trainings.start_training(
            session, training_id=training.id, weights="1" * 64, mlflow_run_id=run, flow_run_id=run
        )

    assert training.state == "running"
    assert (training.weights, training.mlflow_run_id, training.flow_run_id) == (
        "1" * 64,
        "first",
        "first",
    )


def test_it_advances_and_ends_for_good(session: Session, now: datetime) -> None:
    training = add(session)
    rounds.close_round(
        session,
        round_id=rounds.list_rounds(session, training.id)[0].id,
        state="failed",
        reason="x",
        now=now,
    )
    trainings.advance_training(
        session, training_id=training.id, weights="2" * 64, strategy_state="3" * 64
    )
    for _ in range(2):
        trainings.close_training(
            session, training_id=training.id, state="completed", model_version="4", now=now
        )

    assert (training.state, training.weights, training.model_version, training.closed_at) == (
        "completed",
        "2" * 64,
        "4",
        now,
    )
    with pytest.raises(Conflict, match="completed"):
        trainings.close_training(session, training_id=training.id, state="failed")
    with pytest.raises(Conflict, match="completed"):
        trainings.advance_training(
            session, training_id=training.id, weights="2" * 64, strategy_state=None
        )
    with pytest.raises(Conflict, match="completed"):
        trainings.start_training(
            session, training_id=training.id, weights="2" * 64, mlflow_run_id="m"
        )


def test_a_failed_training_takes_its_rounds_with_it(session: Session) -> None:
    training = add(session)
    trainings.close_training(
        session, training_id=training.id, state="failed", reason="no hospital came"
    )
    (first,) = rounds.list_rounds(session, training.id)
    assert (first.state, first.reason) == ("failed", "the training failed: no hospital came")
    assert first.closed_at == training.closed_at is not None


def test_it_is_not_completed_over_an_open_round(
    engine: Engine, round_id: UUID, training_id: UUID
) -> None:
    with transaction(engine) as session, pytest.raises(Conflict, match="round 1") as refused:
        trainings.close_training(session, training_id=training_id, state="completed")
    assert refused.value.rule == "round-open"


def test_runs_are_recorded_one_by_one(session: Session) -> None:
    training = add(session)
    trainings.set_training_runs(session, training_id=training.id, flow_run_id="f")
    trainings.set_training_runs(session, training_id=training.id, mlflow_run_id="m")
    assert (training.flow_run_id, training.mlflow_run_id) == ("f", "m")


def test_one_transaction_at_a_time_drives_a_training(engine: Engine, training_id: UUID) -> None:
    with transaction(engine) as first:
        assert trainings.try_lock_training(first, training_id)
        assert trainings.try_lock_training(first, training_id)
        with transaction(engine) as second:
            assert not trainings.try_lock_training(second, training_id)
            assert trainings.try_lock_training(second, uuid4())
    with transaction(engine) as third:
        assert trainings.try_lock_training(third, training_id)


def test_trainings_are_listed_newest_first_and_by_model(engine: Engine) -> None:
    ids = []
    for _ in range(3):  # a transaction each: the server's clock stands still within one
        with transaction(engine) as session:
            ids.append(add(session).id)
    with transaction(engine) as session:
        assert [t.id for t in trainings.list_trainings(session)] == ids[::-1]
        assert [t.id for t in trainings.list_trainings(session, limit=1)] == ids[-1:]
        model_id = trainings.get_training(session, ids[0]).model_id
        assert [t.id for t in trainings.list_trainings(session, model_id=model_id)] == ids[:1]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"least_cohort": 2}, "least_cohort"),
        ({"delta": 1.0}, "delta"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"rounds": 0}, "rounds"),
        ({"round_deadline_s": 0.0}, "round_deadline_s"),
    ],
)
def test_the_database_itself_refuses_absurd_values(
    session: Session, change: dict[str, object], rule: str
) -> None:
    with pytest.raises(IntegrityError, match=f"ck_trainings_{rule}"):
        add(session, **change)


def test_unknown_keys_are_named(session: Session) -> None:
    unknown = uuid4()
    with pytest.raises(NotFound, match=f"no model '{unknown}'"):
        trainings.add_training(session, model_id=unknown, **REQUEST)  # type: ignore[arg-type]
    with pytest.raises(NotFound, match=f"no training '{unknown}'"):
        trainings.get_training(session, unknown)
    with pytest.raises(NotFound, match=f"no training '{unknown}'"):
        trainings.close_training(session, training_id=unknown, state="failed")
