"""What a stopped stack leaves half done, brought to a named end before the next one works.

When a stack starts on a state directory, no flow of an earlier one is alive. Its open rounds end as
failed, the trainings whose flow ran them as well, and their Prefect runs as cancelled, so that
nothing waits for what will not come. A training that had not begun runs now; one that takes a round
at each run of ``federated-round`` goes on with the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from db.models import Round, Training
from db.queries import audit, rounds, trainings
from db.session import transaction

REASON: Final = "the stack was stopped in the middle; start the training again"
ACTOR: Final = "stack"

_IN_FLIGHT: Final = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)


def end_interrupted_trainings(engine: Engine, *, now: datetime) -> list[Training]:
    """Ends the open rounds as failed, and the trainings whose flow is gone; returns those."""
    with transaction(engine) as session:
        running = [t for t in trainings.unfinished_trainings(session) if t.state == "running"]
        for left in _open_rounds(session, running):
            rounds.close_round(session, round_id=left.id, state="failed", reason=REASON, now=now)
        interrupted = [training for training in running if training.flow_run_id is not None]
        for training in interrupted:
            _fail(session, training, reason=REASON, now=now)
    return interrupted


def end_trainings_of_run(engine: Engine, flow_run_id: str, *, reason: str, now: datetime) -> None:
    """Ends as failed what a run that has ended left open: its round, and the training it drove."""
    with transaction(engine) as session:
        unfinished = trainings.unfinished_trainings(session)
        for left in _open_rounds(session, unfinished):
            if left.flow_run_id == flow_run_id:
                rounds.close_round(
                    session, round_id=left.id, state="failed", reason=reason, now=now
                )
        for training in unfinished:
            if training.flow_run_id == flow_run_id:
                _fail(session, training, reason=reason, now=now)


async def cancel_interrupted_runs(client: PrefectClient) -> None:
    """Cancels the Prefect runs that were in flight when the stack stopped."""
    in_flight = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_IN_FLIGHT)))
    )
    while flow_runs := await client.read_flow_runs(
        flow_run_filter=in_flight, sort=FlowRunSort.ID_DESC, limit=200
    ):
        for flow_run in flow_runs:
            await client.set_flow_run_state(flow_run.id, Cancelled(message=REASON), force=True)


def _open_rounds(session: Session, of: Iterable[Training]) -> list[Round]:
    return [
        found
        for training in of
        for found in rounds.list_rounds(session, training.id)
        if found.state == "open"
    ]


def _fail(session: Session, training: Training, *, reason: str, now: datetime) -> None:
    trainings.close_training(
        session, training_id=training.id, state="failed", reason=reason, now=now
    )
    audit.append_event(
        session,
        actor=ACTOR,
        action="training.failed",
        subject=f"training:{training.id}",
        details={"reason": reason},
        now=now,
    )
