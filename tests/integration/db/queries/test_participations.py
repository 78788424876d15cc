from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import get_args
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from db.errors import Conflict, NotFound
from db.models import Participation, ParticipationState
from db.queries import participations
from db.session import transaction

pytestmark = pytest.mark.integration

PATHS: list[tuple[ParticipationState, ...]] = [
    ("enrolled", "uploaded", "revealed"),
    ("refused",),
    ("lost",),
    ("enrolled", "refused"),
    ("enrolled", "lost"),
    ("enrolled", "uploaded", "refused"),
    ("enrolled", "uploaded", "lost"),
]
STATES: tuple[ParticipationState, ...] = get_args(ParticipationState)


def move(
    session: Session, round_id: UUID, state: ParticipationState, now: datetime
) -> Participation:
    return participations.set_participation(
        session, round_id=round_id, hospital_id="north", state=state, now=now
    )


@pytest.mark.parametrize("path", PATHS)
def test_states_go_forward(
    engine: Engine, round_id: UUID, now: datetime, path: tuple[ParticipationState, ...]
) -> None:
    with transaction(engine) as session:
        for hours, state in enumerate(path):
            moved = move(session, round_id, state, now + timedelta(hours=hours))
    stamps = {"enrolled": moved.enrolled_at, "uploaded": moved.uploaded_at}
    stamps["revealed"] = moved.revealed_at

    assert moved.state == path[-1]
    for state, at in stamps.items():
        expected = now + timedelta(hours=path.index(state)) if state in path else None  # type: ignore[arg-type]
        assert at == expected
    assert moved.ended_at == now + timedelta(hours=len(path) - 1)


def test_no_other_step_is_taken(engine: Engine, round_id: UUID, now: datetime) -> None:
    allowed = {("invited", path[0]) for path in PATHS}
    allowed |= {step for path in PATHS for step in pairwise(path)}
    reach: dict[ParticipationState, tuple[ParticipationState, ...]] = {"invited": ()}
    reach |= {path[i]: path[: i + 1] for path in PATHS for i in range(len(path))}

    for start, path in reach.items():
        for state in STATES:
            with Session(engine) as session:  # rolled back
                for step in path:
                    move(session, round_id, step, now)
                if state == start or (start, state) in allowed:
                    assert move(session, round_id, state, now).state == state
                else:
                    with pytest.raises(Conflict, match="does not follow") as refused:
                        move(session, round_id, state, now)
                    assert refused.value.rule == "participation-order"


def test_the_same_state_again_changes_nothing(
    engine: Engine, round_id: UUID, now: datetime
) -> None:
    with transaction(engine) as session:
        for hours in range(2):
            moved = participations.set_participation(
                session,
                round_id=round_id,
                hospital_id="north",
                state="refused",
                reason_code=f"code-{hours}",
                reason=f"reason {hours}",
                now=now + timedelta(hours=hours),
            )
    assert (moved.reason_code, moved.reason, moved.ended_at) == ("code-0", "reason 0", now)


def test_a_hospitals_flow_run_is_recorded(engine: Engine, round_id: UUID) -> None:
    with transaction(engine) as session:
        participations.set_flow_run(
            session, round_id=round_id, hospital_id="north", flow_run_id="run-7"
        )
    with transaction(engine) as session:
        found = participations.get_participation(session, round_id=round_id, hospital_id="north")
    assert found.flow_run_id == "run-7"


def test_who_is_not_invited_is_named(engine: Engine, round_id: UUID, now: datetime) -> None:
    with transaction(engine) as session:
        calls = [
            lambda: participations.set_participation(
                session, round_id=round_id, hospital_id="eve", state="enrolled", now=now
            ),
            lambda: participations.get_participation(session, round_id=round_id, hospital_id="eve"),
            lambda: participations.set_flow_run(
                session, round_id=round_id, hospital_id="eve", flow_run_id="x"
            ),
        ]
        for call in calls:
            with pytest.raises(NotFound, match="eve in round"):
                call()
        with pytest.raises(NotFound, match="no round"):
            participations.participations(session, uuid4())
        with pytest.raises(NotFound, match="no round"):
            participations.get_participation(session, round_id=uuid4(), hospital_id="north")
