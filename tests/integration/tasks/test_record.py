"""Recording a round: its end, its compliance record, the training's new weights, all or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from db.errors import Conflict
from db.queries import audit, rounds, trainings
from db.session import transaction
from tasks import record
from tasks.aggregate import Aggregated
from tasks.cohort import OpenedRound
from tasks.record import RoundOutcome, leave_artifacts, write_compliance_records

pytestmark = pytest.mark.integration

LEFT = Aggregated(weights="2" * 64, strategy_state="3" * 64)


def outcome(**changes: Any) -> RoundOutcome:
    values = {
        "reason": None,
        "metrics": {"auc": 0.91, "accuracy": 0.88},
        "epsilon": 1.5,
        "aggregated": LEFT,
        "seconds": 1.25,
        "survivors": ("east", "north", "west"),
    }
    return RoundOutcome(**(values | changes))


def write(consortium: Any, opened: OpenedRound, how: RoundOutcome) -> Any:
    """Writes a round's record; returns its audit event."""
    write_compliance_records.fn(consortium.coordinator, opened, how)
    with transaction(consortium.engine) as session:
        audit.verify_chain(session)
        (event,) = audit.list_events(session, subject=f"round:{opened.round_id}")
        return event


def test_a_completed_round_advances_its_training(consortium: Any) -> None:
    opened = consortium.open()
    consortium.gather(opened)
    write(consortium, opened, outcome())

    with transaction(consortium.engine) as session:
        closed = rounds.get_round(session, opened.round_id)
        training = trainings.get_training(session, opened.invitation.training_id)
    assert (closed.state, closed.reason) == ("completed", None)
    assert (closed.outgoing_weights, closed.strategy_state) == (LEFT.weights, LEFT.strategy_state)
    assert closed.metrics == {"auc": 0.91, "accuracy": 0.88}
    assert (closed.epsilon, closed.delta) == (1.5, 1e-5)
    assert closed.closed_at == consortium.coordinator.now()
    assert (training.weights, training.strategy_state) == (LEFT.weights, LEFT.strategy_state)


def test_its_compliance_record_says_who_took_part_in_what(consortium: Any) -> None:
    opened = consortium.open()
    consortium.gather(opened)
    event = write(consortium, opened, outcome())

    assert (event.actor, event.action) == ("coordinator", "round.completed")
    assert event.at == consortium.coordinator.now()
    assert event.details == {
        "training": str(opened.invitation.training_id),
        "number": 1,
        "kind": "training",
        "model": "breast-cancer",
        "hospitals": {"east": "revealed", "north": "revealed", "west": "revealed"},
        "reasons": {},
        "survivors": ["east", "north", "west"],
        "faults": [],
        "incoming_weights": opened.invitation.weights,
        "outgoing_weights": LEFT.weights,
        "plan": opened.invitation.plan.model_dump(mode="json"),
        "epsilon": 1.5,
        "delta": 1e-5,
        "outcome": "completed",
    }


def test_a_failed_round_leaves_the_training_where_it_was(consortium: Any) -> None:
    opened = consortium.open()
    failed = outcome(reason="west refused: crashed", metrics={}, aggregated=None)
    event = write(consortium, opened, failed)

    with transaction(consortium.engine) as session:
        closed = rounds.get_round(session, opened.round_id)
        training = trainings.get_training(session, opened.invitation.training_id)
    assert (closed.state, closed.reason) == ("failed", "west refused: crashed")
    assert training.weights == opened.invitation.weights
    assert event.action == "round.failed"
    assert event.details["outcome"] == "west refused: crashed"
    assert event.details["outgoing_weights"] is None
    assert set(event.details["hospitals"].values()) == {"invited"}


def test_an_evaluation_round_is_recorded_and_moves_nothing(consortium: Any) -> None:
    opened = consortium.open(kind="evaluation")
    event = write(consortium, opened, outcome(aggregated=None))
    assert (event.action, event.details["kind"]) == ("round.completed", "evaluation")
    (training,) = consortium.contents()["trainings"]
    assert training["weights"] == opened.invitation.weights


def test_a_round_that_has_ended_otherwise_gets_no_second_record(consortium: Any) -> None:
    opened = consortium.open()
    consortium.fail(opened)
    with pytest.raises(Conflict, match="is failed"):
        write_compliance_records.fn(consortium.coordinator, opened, outcome())
    assert consortium.contents()["audit_events"] == []
    (training,) = consortium.contents()["trainings"]
    assert training["weights"] == opened.invitation.weights


@pytest.mark.parametrize(("number", "progress"), [(1, 50.0), (2, 100.0), (3, 100.0)])
def test_a_round_leaves_its_summary_its_progress_and_a_link(
    consortium: Any, monkeypatch: pytest.MonkeyPatch, number: int, progress: float
) -> None:
    left: dict[str, Any] = {}
    monkeypatch.setattr(
        record,
        "create_markdown_artifact",
        lambda table, *, key, description: left.update({key: table}),
    )
    monkeypatch.setattr(
        record,
        "create_progress_artifact",
        lambda value, *, key, description: left.update({key: (value, description)}),
    )
    monkeypatch.setattr(
        record,
        "create_link_artifact",
        lambda url, *, link_text, key: left.update({key: url}),
    )
    training_id = consortium.add_training()
    for _ in range(number - 1):
        consortium.fail(consortium.open(training_id))
    opened = consortium.open(training_id)
    leave_artifacts(consortium.coordinator, opened, outcome(), run_url="http://mlflow/run")

    key = f"training-{str(training_id)[:8]}"
    assert left[f"{key}-progress"] == (progress, f"{min(number, 2)} of 2 rounds")
    assert left[f"{key}-mlflow"] == "http://mlflow/run"
    assert left[f"{key}-summary"].startswith(f"# Round {number} of 2: breast-cancer")
    assert "| west | invited |" in left[f"{key}-summary"]
