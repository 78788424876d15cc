"""What a stopped stack, or a lost run, leaves half done comes to a named end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.filters import FlowRunFilter
from prefect.workers.process import ProcessWorker
from sqlalchemy import Engine

from db.models import Round, Training
from db.queries import audit, hospitals, models, rounds, trainings
from db.session import transaction
from deployments import coordinator
from deployments.coordinator import CoordinatorWorker
from deployments.stack.recover import (
    REASON,
    cancel_interrupted_runs,
    end_interrupted_trainings,
    end_trainings_of_run,
)

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

Add = Callable[..., UUID]


@pytest.fixture
def add(engine: Engine, keys_of: Callable[[str], dict[str, str]]) -> Add:
    """Adds a training: pending, or running with ``flow_run_id`` and perhaps an open round."""
    with transaction(engine) as session:
        for hospital_id in ("east", "north", "west"):
            hospitals.add_hospital(session, hospital_id=hospital_id, name=hospital_id)
            hospitals.publish_identity(session, hospital_id=hospital_id, **keys_of(hospital_id))
        model_id = models.add_model(session, name="m", spec={}).id

    def add_training(
        *, begun: bool = True, flow_run_id: str | None = None, round_of: str | None = None
    ) -> UUID:
        with transaction(engine) as session:
            training = trainings.add_training(
                session,
                model_id=model_id,
                rounds=2,
                strategy={"kind": "fedavg"},
                plan={},
                epsilon=8.0,
                delta=1e-5,
                least_cohort=3,
                round_deadline_s=60.0,
                requested_by="ada",
            )
            if begun:
                trainings.start_training(
                    session,
                    training_id=training.id,
                    weights="0" * 64,
                    mlflow_run_id="m",
                    flow_run_id=flow_run_id,
                )
            if round_of is not None:
                rounds.open_round(
                    session,
                    training_id=training.id,
                    kind="training",
                    incoming_weights="0" * 64,
                    flow_run_id=round_of,
                    now=NOW,
                )
            return training.id

    return add_training


def read(engine: Engine, training_id: UUID) -> tuple[Training, Round, list[str]]:
    """A training, its last round, and the actions of its audit events."""
    with transaction(engine) as session:
        events = audit.list_events(session, subject=f"training:{training_id}")
        return (
            trainings.get_training(session, training_id),
            rounds.list_rounds(session, training_id)[-1],
            [f"{event.actor} {event.action} {event.details['reason']}" for event in events],
        )


def test_a_training_whose_flow_is_gone_fails_with_its_open_round(engine: Engine, add: Add) -> None:
    training_id = add(flow_run_id="flow-1", round_of="flow-2")
    (ended,) = end_interrupted_trainings(engine, now=NOW)
    assert ended.id == training_id
    training, left, events = read(engine, training_id)
    assert (training.state, training.reason, training.closed_at) == ("failed", REASON, NOW)
    assert (left.state, left.reason, left.closed_at) == ("failed", REASON, NOW)
    assert events == [f"stack training.failed {REASON}"]


def test_a_training_between_two_rounds_fails_as_well_when_a_flow_drives_it(
    engine: Engine, add: Add
) -> None:
    training_id = add(flow_run_id="flow-1")
    end_interrupted_trainings(engine, now=NOW)
    training, left, _ = read(engine, training_id)
    assert training.state == "failed"
    assert left.reason == f"the training failed: {REASON}"


def test_a_scheduled_training_loses_its_open_round_and_goes_on(engine: Engine, add: Add) -> None:
    training_id = add(round_of="flow-2")
    assert end_interrupted_trainings(engine, now=NOW) == []
    training, left, events = read(engine, training_id)
    assert (training.state, training.reason) == ("running", None)
    assert (left.state, left.reason) == ("failed", REASON)
    assert events == []
    with transaction(engine) as session:  # its next round can be opened
        opened = rounds.open_round(
            session,
            training_id=training_id,
            kind="training",
            incoming_weights="0" * 64,
            flow_run_id=None,
            now=NOW,
        )
    assert opened.number == 2


def test_a_scheduled_training_between_two_rounds_is_left_alone(engine: Engine, add: Add) -> None:
    training_id = add()
    end_interrupted_trainings(engine, now=NOW)
    training, left, events = read(engine, training_id)
    assert (training.state, left.state, events) == ("running", "pending", [])


def test_a_training_that_had_not_begun_still_will(engine: Engine, add: Add) -> None:
    training_id = add(begun=False)
    assert end_interrupted_trainings(engine, now=NOW) == []
    training, left, events = read(engine, training_id)
    assert (training.state, left.state, events) == ("pending", "pending", [])


def test_what_has_ended_keeps_its_end(engine: Engine, add: Add) -> None:
    training_id = add(flow_run_id="flow-1")
    with transaction(engine) as session:
        trainings.close_training(session, training_id=training_id, state="failed", reason="west")
    assert end_interrupted_trainings(engine, now=NOW) == []
    assert read(engine, training_id)[0].reason == "west"


def test_recovering_twice_ends_nothing_more_and_the_chain_holds(engine: Engine, add: Add) -> None:
    add(flow_run_id="flow-1", round_of="flow-2")
    add(flow_run_id="flow-3")
    assert len(end_interrupted_trainings(engine, now=NOW)) == 2
    assert end_interrupted_trainings(engine, now=NOW) == []
    with transaction(engine) as session:
        assert audit.verify_chain(session) == 2


def test_an_old_training_is_found_behind_many_newer_ones(engine: Engine, add: Add) -> None:
    oldest = add(flow_run_id="flow-1", round_of="flow-1")
    with transaction(engine) as session:
        known = trainings.get_training(session, oldest)
        columns = {c.name: getattr(known, c.name) for c in Training.__table__.columns}
        newer = {"state": "pending", "created_at": datetime(2099, 1, 1, tzinfo=UTC)}
        session.add_all(Training(**{**columns, **newer, "id": uuid4()}) for _ in range(150))
    assert [ended.id for ended in end_interrupted_trainings(engine, now=NOW)] == [oldest]


def test_a_lost_run_ends_the_training_it_drove_and_no_other(engine: Engine, add: Add) -> None:
    lost = add(flow_run_id="flow-1", round_of="flow-2")
    other = add(flow_run_id="flow-3", round_of="flow-4")
    end_trainings_of_run(engine, "flow-1", reason="exit code 137", now=NOW)
    training, left, events = read(engine, lost)
    assert (training.state, training.reason) == ("failed", "exit code 137")
    assert left.state == "failed"
    assert events == ["stack training.failed exit code 137"]
    training, left, _ = read(engine, other)
    assert (training.state, left.state) == ("running", "open")


def test_a_lost_run_of_one_round_ends_the_round_and_the_training_goes_on(
    engine: Engine, add: Add
) -> None:
    training_id = add(round_of="flow-2")
    end_trainings_of_run(engine, "flow-2", reason="exit code 137", now=NOW)
    training, left, events = read(engine, training_id)
    assert (training.state, left.state, left.reason) == ("running", "failed", "exit code 137")
    assert events == []


class FakePrefect:
    """Prefect's runs, page by page as its client gives them."""

    def __init__(self, in_flight: int) -> None:
        self.runs = {uuid4(): SimpleNamespace(id=None) for _ in range(in_flight)}
        for run_id, run in self.runs.items():
            run.id = run_id
        self.cancelled: list[tuple[str, str, bool]] = []
        self.asked: set[str] = set()

    async def read_flow_runs(
        self, *, flow_run_filter: FlowRunFilter, sort: Any, limit: int
    ) -> list[Any]:
        assert flow_run_filter.state is not None
        assert flow_run_filter.state.type is not None
        self.asked = {str(state.value) for state in flow_run_filter.state.type.any_ or ()}
        return list(self.runs.values())[:limit]

    async def set_flow_run_state(self, flow_run_id: UUID, state: Any, *, force: bool) -> None:
        del self.runs[flow_run_id]
        self.cancelled.append((state.type.value, state.message, force))


@pytest.mark.anyio
@pytest.mark.parametrize("in_flight", [0, 1, 450])
async def test_every_run_in_flight_is_cancelled_and_none_that_is_scheduled(in_flight: int) -> None:
    server: Any = FakePrefect(in_flight)
    await cancel_interrupted_runs(server)
    assert server.asked == {"RUNNING", "PENDING", "CANCELLING"}
    assert server.cancelled == [("CANCELLED", REASON, True)] * in_flight


@pytest.fixture
def worker(engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> CoordinatorWorker:
    monkeypatch.setenv("FEDMED_DATABASE_URL", database_url)
    return CoordinatorWorker(work_pool_name="coordinator")


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["exit code", "error"])
async def test_the_coordinator_s_worker_ends_what_its_run_has_left_open(
    engine: Engine, add: Add, worker: CoordinatorWorker, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    training_id = add(flow_run_id="flow-1", round_of="flow-1")

    async def run(self: Any, flow_run: Any, configuration: Any, task_status: Any) -> Any:
        if how == "error":
            raise OSError("no memory")
        return SimpleNamespace(status_code=137)

    monkeypatch.setattr(ProcessWorker, "run", run)
    flow_run: Any = SimpleNamespace(id="flow-1", name="training-1")
    configuration: Any = None
    if how == "error":
        with pytest.raises(OSError, match="no memory"):
            await worker.run(flow_run, configuration)
        said = "could not start"
    else:
        assert (await worker.run(flow_run, configuration)).status_code == 137
        said = "ended with exit code 137"
    training, left, _ = read(engine, training_id)
    assert training.state == left.state == "failed"
    assert training.reason == f"its run 'training-1' {said} before the training was over"
    worker._engine.dispose()


@pytest.mark.anyio
@pytest.mark.parametrize("code", [0, 2])
async def test_the_coordinator_works_only_when_its_deployments_are_registered(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    started: list[str] = []

    async def run_process(command: list[str], **_: Any) -> Any:
        assert command[1:3] == ["-m", "deployments.register"]
        return SimpleNamespace(returncode=code)

    async def start(self: CoordinatorWorker) -> None:
        started.append(self._work_pool_name)

    monkeypatch.setattr(coordinator.anyio, "run_process", run_process)
    monkeypatch.setattr(CoordinatorWorker, "start", start)
    if code:
        with pytest.raises(SystemExit) as ended:
            await coordinator.run()
        assert ended.value.code == code
        assert started == []
    else:
        await coordinator.run()
        assert started == ["coordinator"]
