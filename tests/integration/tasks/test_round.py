"""A round and its closing, from the flow through its tasks to the database; no Prefect, no MLflow.

What the flow sends to the two servers is caught on its way; ``tests/e2e`` has them for real.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest

from db.queries import rounds
from db.session import transaction
from fl.champion import Decision
from fl.weights import decode_weights
from flows import federated_round as flow
from privacy.pricing import epsilon_by_round
from tasks.closing import Closing
from tasks.registry import RegisteredModel
from tasks.track import MetricPoint

pytestmark = pytest.mark.integration

REFUSAL = json.dumps({"code": "data-contract", "reason": "radius: out-of-range"}).encode()


@dataclass
class Servers:
    """What would have gone to Prefect and MLflow."""

    dispatched: list[str] = field(default_factory=list)
    points: list[MetricPoint] = field(default_factory=list)
    summaries: list[Any] = field(default_factory=list)
    registered: list[tuple[Any, Closing]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ended: list[bool] = field(default_factory=list)

    def register_model(self, run_id: str, weights: Any, closing: Closing) -> RegisteredModel:
        self.registered.append((weights, closing))
        return RegisteredModel(closing.training.spec.name, str(len(self.registered)))

    def steps(self, name: str) -> dict[int, float]:
        return {point.step: point.value for point in self.points if point.name == name}


@pytest.fixture
def servers(consortium: Any, monkeypatch: pytest.MonkeyPatch) -> Servers:
    caught = Servers()

    def replace(**attributes: Any) -> None:
        for name, value in attributes.items():
            monkeypatch.setattr(flow, name, value)

    replace(
        get_run_logger=lambda: logging.getLogger("test"),
        open_round=lambda _, training_id, *, kind, flow_run_id: consortium.open(
            training_id, kind=kind
        ),
        gather_masked_updates=partial(flow.gather_masked_updates.fn, clock=consortium.clock),
        dispatch_training=lambda _, opened: caught.dispatched.extend(opened.hospital_ids),
        log_to_mlflow=lambda _, points: caught.points.extend(points),
        leave_artifacts=lambda _, opened, outcome, *, run_url: caught.summaries.append(
            (opened.invitation.number, outcome.reason)
        ),
        mlflow_run_url=lambda run_id: f"http://mlflow/{run_id}",
        register_model=caught.register_model,
        choose_champion=lambda *_: Decision(True, "the first"),
        annotate_run=lambda _, tags: caught.notes.extend(tags.values()),
        end_run=lambda _, *, failed: caught.ended.append(failed),
        **{
            name: getattr(flow, name).fn
            for name in (
                "aggregate",
                "evaluate",
                "write_compliance_records",
                "prepare_training",
                "evaluate_public",
                "close_training",
            )
        },
    )
    monkeypatch.setattr(flow.Coordinator, "from_environment", lambda: consortium.coordinator)
    return caught


def states(consortium: Any) -> list[tuple[str, str, str | None]]:
    rows = sorted(consortium.contents()["rounds"], key=lambda row: row["number"])
    return [(row["kind"], row["state"], row["reason"]) for row in rows]


def test_a_training_runs_round_by_round_to_a_registered_model(
    consortium: Any, servers: Servers
) -> None:
    training_id = consortium.add_training()
    first = flow.federated_round.fn(training_id)
    assert first.is_completed()
    assert first.message == "1 of 2 rounds"
    (training,) = consortium.contents()["trainings"]
    assert training["state"] == "running"
    assert servers.registered == []

    second = flow.federated_round.fn(training_id)
    assert second.message == "2 of 2 rounds"
    assert states(consortium) == [
        ("training", "completed", None),
        ("training", "completed", None),
        ("evaluation", "completed", None),
    ]
    (training,) = consortium.contents()["trainings"]
    assert (training["state"], training["model_version"]) == ("completed", "1")
    assert servers.dispatched == ["east", "north", "west"] * 3
    assert servers.summaries == [(1, None), (2, None), (3, None)]
    assert servers.ended == [False]
    (note,) = servers.notes
    assert note.endswith("Version 1. Champion: the first")

    third = flow.federated_round.fn(training_id)
    assert third.is_completed()
    assert third.message == f"training {training_id} has ended: completed"


def test_each_round_moves_the_weights_by_the_mean_update(consortium: Any, servers: Servers) -> None:
    training_id = consortium.add_training()
    flow.federated_round.fn(training_id)
    flow.federated_round.fn(training_id)
    mean = np.mean([hospital.update for hospital in consortium.hospitals.values()], axis=0)
    with transaction(consortium.engine) as session:
        first, second, closing = rounds.list_rounds(session, training_id)
    for done, times in ((first, 1), (second, 2)):
        weights = decode_weights(consortium.blobs.get(done.outgoing_weights))
        assert weights["w"] == pytest.approx(times * mean, abs=2e-5)
    assert first.outgoing_weights == second.incoming_weights
    assert second.outgoing_weights == closing.incoming_weights
    assert closing.outgoing_weights is None
    ((registered, _),) = servers.registered
    assert np.array_equal(registered["w"], weights["w"])


def test_figures_belong_to_the_weights_they_were_measured_on(
    consortium: Any, servers: Servers
) -> None:
    training_id = consortium.add_training()
    for _ in range(2):
        flow.federated_round.fn(training_id)
    with transaction(consortium.engine) as session:
        measured = [r.metrics["auc"] for r in rounds.list_rounds(session, training_id)]
    assert servers.steps("auc") == dict(enumerate(measured))
    assert set(servers.steps("round_seconds")) == {1, 2}
    ((_, closing),) = servers.registered
    plan = flow.progress(consortium.coordinator, training_id).plan
    spent = [0.0, *epsilon_by_round(plan)]
    assert servers.steps("epsilon") == {1: spent[1], 2: spent[2]}
    assert [figures["epsilon"] for figures in closing.history] == spent
    assert [figures["auc"] for figures in closing.history] == measured
    assert closing.evaluation.roc is not None
    assert f"auc {measured[-1]:.3f}" in closing.describe()
    assert f"epsilon {spent[-1]:.2f} at delta 1e-05" in closing.describe()


def test_a_failed_round_ends_with_its_reason_everywhere(consortium: Any, servers: Servers) -> None:
    consortium.hospitals["west"].refuses["enrolment"] = REFUSAL
    training_id = consortium.add_training()
    state = flow.federated_round.fn(training_id)

    reason = "west refused: data-contract: radius: out-of-range"
    assert (state.is_failed(), state.message) == (True, reason)
    assert states(consortium) == [("training", "failed", reason)]
    assert servers.summaries == [(1, reason)]
    assert servers.points == []
    (training,) = consortium.contents()["trainings"]
    assert training["state"] == "running"

    consortium.hospitals["west"].refuses.clear()
    assert flow.federated_round.fn(training_id).message == "1 of 2 rounds"


def test_an_error_of_the_coordinator_closes_the_round_without_its_text(
    consortium: Any, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret of the sum")

    monkeypatch.setattr(flow, "aggregate", broken)
    training_id = consortium.add_training()
    with pytest.raises(ZeroDivisionError):
        flow.federated_round.fn(training_id)
    assert states(consortium) == [
        ("training", "failed", "the coordinator failed: ZeroDivisionError")
    ]
    # The updates were released, so the round is charged all the same.
    (row,) = consortium.contents()["rounds"]
    assert row["epsilon"] > 0


def test_a_closing_evaluation_that_fails_is_tried_again_by_the_next_run(
    consortium: Any, servers: Servers
) -> None:
    training_id = consortium.add_training()
    flow.federated_round.fn(training_id)
    real = consortium.open

    def open_without_west(training_id: Any, *, kind: Any) -> Any:
        if kind == "evaluation":
            consortium.hospitals["west"].answers["upload"] = None
        return real(training_id, kind=kind)

    consortium.open = open_without_west
    state = flow.federated_round.fn(training_id)
    assert state.is_failed()
    assert state.message == "west sent no upload within 48 s"
    assert servers.ended == []

    consortium.open = real
    consortium.hospitals["west"].answers.clear()
    assert flow.federated_round.fn(training_id).message == "2 of 2 rounds"
    assert [kind for kind, _, _ in states(consortium)] == [
        *("training", "training", "evaluation", "evaluation")
    ]
    assert servers.ended == [False]


def test_without_an_id_the_longest_waiting_scheduled_training_gets_the_round(
    consortium: Any, servers: Servers
) -> None:
    nothing = flow.federated_round.fn()
    assert nothing.is_completed()
    assert nothing.message == "no scheduled training waits for a round"
    consortium.add_training(flow_run_id="flow-1")
    waiting = consortium.add_training()
    assert flow.federated_round.fn().message == "1 of 2 rounds"
    assert [row["training_id"] for row in consortium.contents()["rounds"] if row["opened_at"]] == [
        waiting
    ]
