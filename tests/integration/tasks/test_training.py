"""Beginning a training, where it stands between rounds, and ending it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import tenacity

from db.errors import Conflict, NotFound
from db.models import Training
from db.queries import audit, trainings
from db.session import transaction
from fl.spec import TrainingRequest
from fl.strategy_spec import FedAdam
from fl.weights import decode_weights
from privacy.plan import PrivacyRequest
from privacy.pricing import epsilon_by_round
from tasks import training as training_tasks
from tasks.aggregate import aggregate
from tasks.errors import HospitalSilent
from tasks.models import encoded_initial_weights
from tasks.record import RoundOutcome, write_compliance_records
from tasks.training import (
    close_training,
    epsilon_spent,
    history,
    next_scheduled_training,
    prepare_training,
    progress,
    request_training,
)

pytestmark = pytest.mark.integration


def columns_of(training: Training) -> dict[str, Any]:
    return {column.name: getattr(training, column.name) for column in Training.__table__.columns}


def complete(
    consortium: Any, training_id: UUID, *, kind: str = "training", **metrics: float
) -> None:
    """Runs a round to its end and records it as the flow does."""
    opened = consortium.open(training_id, kind=kind)
    gathered = consortium.gather(opened)
    coordinator = consortium.coordinator
    plan = opened.invitation.plan
    outcome = RoundOutcome(
        reason=None,
        metrics=metrics,
        epsilon=epsilon_spent(coordinator, plan, training_id),
        aggregated=aggregate.fn(coordinator, opened, gathered) if kind == "training" else None,
        seconds=1.0,
    )
    write_compliance_records.fn(coordinator, opened, outcome)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The MLflow runs that were started; ``test_track`` and the whole stack have real ones."""
    started: list[Any] = []

    def start_run(facts: Any) -> str:
        started.append(facts)
        return f"run-{len(started)}"

    monkeypatch.setattr(training_tasks, "start_run", start_run)
    return started


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes initial weights in this process: a fresh one takes seconds to import PyTorch."""
    monkeypatch.setattr(
        training_tasks, "run_apart", lambda function, *args, **how: function(*args, **how)
    )


def test_a_training_begins_from_weights_that_its_id_alone_decides(
    consortium: Any, runs: list[Any]
) -> None:
    training_id = consortium.add_training(prepared=False)
    begun = prepare_training.fn(consortium.coordinator, training_id, flow_run_id="flow-1")

    assert (begun.state, begun.mlflow_run_id, begun.completed) == ("running", "run-1", 0)
    expected = encoded_initial_weights(begun.spec, seed=training_id.int % 2**32)
    assert consortium.blobs.get(begun.weights) == expected
    assert {w.shape for w in decode_weights(expected).values()} == {(4, 1), (4,), (1, 4), (1,)}
    (facts,) = runs
    assert (facts.training_id, facts.model_version, facts.requested_by) == (training_id, 1, "ada")
    assert (facts.spec, facts.plan, facts.strategy["kind"]) == (begun.spec, begun.plan, "fedavg")
    assert (facts.hospitals, facts.purpose, facts.public_test) == (3, "research", None)
    (row,) = consortium.contents()["trainings"]
    assert row["flow_run_id"] == "flow-1"


@pytest.mark.usefixtures("near")
def test_preparing_it_again_changes_nothing(consortium: Any, runs: list[Any]) -> None:
    training_id = consortium.add_training(prepared=False)
    first = prepare_training.fn(consortium.coordinator, training_id)
    assert prepare_training.fn(consortium.coordinator, training_id) == first
    assert len(runs) == 1


def test_a_training_that_is_committed_a_moment_later_is_waited_for(
    consortium: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium.add_training()
    late = uuid4()

    def commit(_: float) -> None:
        with transaction(consortium.engine) as session:
            (known,) = trainings.list_trainings(session)
            session.add(Training(**{**columns_of(known), "id": late}))

    monkeypatch.setattr(training_tasks._written_training.retry, "sleep", commit)
    assert prepare_training.fn(consortium.coordinator, late).training_id == late


def test_a_training_that_is_never_written_is_named(
    consortium: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry = training_tasks._written_training.retry
    monkeypatch.setattr(retry, "stop", tenacity.stop_after_attempt(2))
    monkeypatch.setattr(retry, "sleep", lambda _: None)
    unknown = uuid4()
    with pytest.raises(NotFound, match=str(unknown)):
        prepare_training.fn(consortium.coordinator, unknown)


def test_progress_counts_what_was_attempted_completed_and_charged(consortium: Any) -> None:
    training_id = consortium.add_training()
    assert progress(consortium.coordinator, training_id).attempted == 0
    complete(consortium, training_id, auc=0.5)
    at = progress(consortium.coordinator, training_id)
    assert (at.attempted, at.completed, at.charged, at.has_rounds_left) == (1, 1, 1, True)

    # A round that fails before anybody has uploaded costs nothing, …
    consortium.fail(consortium.open(training_id))
    at = progress(consortium.coordinator, training_id)
    assert (at.attempted, at.completed, at.charged, at.has_rounds_left) == (2, 1, 1, True)

    # … one that fails afterwards spends a round of the plan.
    consortium.hospitals["north"].answers["reveal"] = None
    opened = consortium.open(training_id)
    with pytest.raises(HospitalSilent):
        consortium.gather(opened)
    consortium.fail(opened)
    at = progress(consortium.coordinator, training_id)
    assert (at.attempted, at.completed, at.charged, at.has_rounds_left) == (3, 1, 2, False)


def test_an_evaluation_is_attempted_and_neither_completed_nor_charged(consortium: Any) -> None:
    training_id = consortium.add_training()
    complete(consortium, training_id, kind="evaluation", auc=0.5)
    at = progress(consortium.coordinator, training_id)
    assert (at.attempted, at.completed, at.charged) == (1, 0, 0)


def test_epsilon_follows_the_charged_rounds(consortium: Any) -> None:
    training_id = consortium.add_training()
    plan = progress(consortium.coordinator, training_id).plan
    spent = [epsilon_spent(consortium.coordinator, plan, training_id)]
    for number in range(2):
        opened = consortium.open(training_id)
        # A failed round too, once an upload of it is out.
        consortium.gather(opened)
        consortium.fail(opened)
        spent.append(epsilon_spent(consortium.coordinator, plan, training_id))
        assert len(spent) == number + 2
    assert spent == [0.0, *epsilon_by_round(plan)]
    assert 0 < spent[1] < spent[2]


def test_history_pairs_what_was_measured_with_what_was_spent_by_then(consortium: Any) -> None:
    training_id = consortium.add_training()
    complete(consortium, training_id, auc=0.5, accuracy=0.4)
    consortium.fail(consortium.open(training_id))
    complete(consortium, training_id, auc=0.8)
    complete(consortium, training_id, kind="evaluation", auc=0.9)
    plan = progress(consortium.coordinator, training_id).plan
    first, second = epsilon_by_round(plan)
    assert history(consortium.coordinator, training_id) == [
        {"auc": 0.5, "accuracy": 0.4, "epsilon": 0.0},
        {"auc": 0.8, "epsilon": first},
        {"auc": 0.9, "epsilon": second},
    ]


def test_the_schedule_takes_the_training_that_has_waited_longest(consortium: Any) -> None:
    assert next_scheduled_training(consortium.coordinator) is None
    consortium.add_training(flow_run_id="flow-1")  # driven by a run of its own
    assert next_scheduled_training(consortium.coordinator) is None
    oldest = consortium.add_training(prepared=False)
    newer = consortium.add_training()
    assert next_scheduled_training(consortium.coordinator) == oldest

    close_training.fn(consortium.coordinator, oldest, state="failed", reason="x")
    assert next_scheduled_training(consortium.coordinator) == newer
    close_training.fn(consortium.coordinator, newer, state="failed", reason="x")
    assert next_scheduled_training(consortium.coordinator) is None


def test_many_newer_trainings_do_not_hide_a_scheduled_one(consortium: Any) -> None:
    oldest = consortium.add_training()
    with transaction(consortium.engine) as session:
        waiting = columns_of(trainings.get_training(session, oldest))
        later = {"created_at": waiting["created_at"] + timedelta(days=1), "flow_run_id": "flow-1"}
        session.add_all(Training(**{**waiting, **later, "id": uuid4()}) for _ in range(150))
    assert next_scheduled_training(consortium.coordinator) == oldest


def test_a_training_can_be_asked_for_without_the_api(consortium: Any) -> None:
    consortium.add_training()
    request = TrainingRequest(
        model="breast-cancer",
        rounds=3,
        strategy=FedAdam(),
        privacy=PrivacyRequest(noise_multiplier=4.0),
        round_deadline_s=30,
    )
    training_id = request_training.fn(consortium.coordinator, request)
    with transaction(consortium.engine) as session:
        training = trainings.get_training(session, training_id)
        (event,) = audit.list_events(session, subject=f"training:{training_id}")
    assert (training.rounds, training.requested_by, training.state) == (3, "prefect", "pending")
    assert training.strategy["kind"] == "fedadam"
    assert training.plan["noise_multiplier"] == 4.0
    assert 0 < training.epsilon < 8
    assert (event.actor, event.action) == ("prefect", "training.requested")
    assert event.details == {
        "model": "breast-cancer",
        "purpose": "research",
        "rounds": 3,
        "recipe": "perceptron",
    }


def test_a_training_of_an_unknown_model_is_not_written(consortium: Any) -> None:
    request = TrainingRequest(model="other", privacy=PrivacyRequest(noise_multiplier=4.0))
    with pytest.raises(NotFound, match="other"):
        request_training.fn(consortium.coordinator, request)
    assert consortium.contents()["trainings"] == []


@pytest.mark.parametrize(
    ("how", "details"),
    [
        (
            {"state": "completed", "model_version": "7"},
            {"model_version": "7", "reason": None},
        ),
        (
            {"state": "failed", "reason": "west refused: crashed"},
            {"model_version": None, "reason": "west refused: crashed"},
        ),
    ],
)
def test_the_end_of_a_training_is_recorded(
    consortium: Any, how: dict[str, Any], details: dict[str, Any]
) -> None:
    training_id = consortium.add_training()
    complete(consortium, training_id, auc=0.5)
    close_training.fn(consortium.coordinator, training_id, **how)
    with transaction(consortium.engine) as session:
        (event,) = audit.list_events(session, subject=f"training:{training_id}")
        audit.verify_chain(session)
        training = trainings.get_training(session, training_id)
    assert (training.state, training.closed_at) == (how["state"], consortium.coordinator.now())
    assert (event.actor, event.action) == ("coordinator", f"training.{how['state']}")
    assert event.details == {**details, "weights": training.weights}


def test_a_training_is_not_completed_over_an_open_round(consortium: Any) -> None:
    training_id: UUID = consortium.add_training()
    consortium.open(training_id)
    with pytest.raises(Conflict, match="round 1"):
        close_training.fn(consortium.coordinator, training_id, state="completed", model_version="1")
    assert consortium.contents()["audit_events"] == []
