from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from db.errors import Conflict, NotFound, TooFewHospitals
from db.models import Outcome, Round
from db.queries import hospitals, messages, participations, rounds, trainings
from db.session import transaction

pytestmark = pytest.mark.integration

Opener = Callable[[], UUID]


def close(
    engine: Engine,
    round_id: UUID,
    now: datetime,
    state: Outcome = "completed",
    weights: str | None = None,
    reason: str | None = None,
) -> Round:
    with transaction(engine) as session:
        return rounds.close_round(
            session,
            round_id=round_id,
            state=state,
            reason=reason,
            metrics={"auc": 0.97},
            epsilon=1.5,
            delta=1e-5,
            outgoing_weights=weights,
            now=now,
        )


def test_it_invites_every_hospital_that_may_be(
    engine: Engine, three_hospitals: tuple[str, ...], open_round: Opener, training_id: UUID
) -> None:
    with transaction(engine) as session:
        hospitals.add_hospital(session, hospital_id="keyless", name="No keys yet")
        pending = rounds.list_rounds(session, training_id)[0].id

    round_id = open_round()

    with transaction(engine) as session:
        opened = rounds.get_round(session, round_id)
        invited = participations.participations(session, round_id)
    assert round_id == pending
    assert (opened.number, opened.state, opened.flow_run_id) == (1, "open", "flow-1")
    assert opened.incoming_weights == "0" * 64
    assert [(p.index, p.hospital_id, p.state) for p in invited] == [
        (1, "east", "invited"),
        (2, "north", "invited"),
        (3, "west", "invited"),
    ]


def test_of_two_openers_at_once_one_wins(
    engine: Engine, three_hospitals: tuple[str, ...], open_round: Opener, training_id: UUID
) -> None:
    together = threading.Barrier(4)

    def contend(_: int) -> str:
        together.wait(10)
        try:
            open_round()
        except Conflict as conflict:
            return conflict.rule
        return "opened"

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(contend, range(4))) == ["opened"] + ["round-open"] * 3
    with transaction(engine) as session:
        assert [r.state for r in rounds.list_rounds(session, training_id)] == ["open"]


def test_the_database_itself_refuses_a_second_open_round(
    engine: Engine, round_id: UUID, training_id: UUID
) -> None:
    with (
        pytest.raises(IntegrityError, match="uq_rounds_one_open"),
        transaction(engine) as session,
    ):
        session.add(Round(training_id=training_id, number=2, state="open"))


def test_too_few_hospitals_is_recorded_as_a_failed_round(
    engine: Engine, training_id: UUID, three_hospitals: tuple[str, ...], now: datetime
) -> None:
    refused: TooFewHospitals | None = None
    with transaction(engine) as session:
        hospitals.set_hospital_state(session, hospital_id="north", state="suspended")
        try:
            rounds.open_round(
                session,
                training_id=training_id,
                kind="training",
                incoming_weights="0" * 64,
                flow_run_id=None,
                now=now,
            )
        except TooFewHospitals as error:
            refused = error

    assert refused is not None
    assert (refused.least, refused.found) == (3, 2)
    with transaction(engine) as session:
        (recorded,) = rounds.list_rounds(session, training_id)
        assert recorded.id == refused.round_id
        assert (recorded.state, recorded.closed_at) == ("failed", now)
        assert "needs 3 hospitals" in (recorded.reason or "")
        assert participations.participations(session, recorded.id) == []
        assert rounds.charged_rounds(session, training_id) == 0


def test_after_a_refusal_the_next_round_has_the_next_number(
    engine: Engine,
    training_id: UUID,
    open_round: Opener,
    now: datetime,
    keys_of: Callable[[str], dict[str, str]],
) -> None:
    with transaction(engine) as session, pytest.raises(TooFewHospitals):
        rounds.open_round(
            session,
            training_id=training_id,
            kind="training",
            incoming_weights="0" * 64,
            flow_run_id=None,
            now=now,
        )
    with transaction(engine) as session:
        for hospital_id in ("a", "b", "c"):
            hospitals.add_hospital(session, hospital_id=hospital_id, name=hospital_id)
            hospitals.publish_identity(session, hospital_id=hospital_id, **keys_of(hospital_id))

    open_round()

    with transaction(engine) as session:
        found = [(r.number, r.state) for r in rounds.list_rounds(session, training_id)]
    assert found == [(1, "failed"), (2, "open")]


def test_closing_again_with_the_same_outcome_changes_nothing(
    engine: Engine, round_id: UUID, now: datetime
) -> None:
    close(engine, round_id, now, weights="1" * 64)
    again = close(engine, round_id, now + timedelta(hours=1), weights="1" * 64, reason="later")

    assert (again.state, again.closed_at, again.reason) == ("completed", now, None)
    assert (again.metrics, again.epsilon, again.delta) == ({"auc": 0.97}, 1.5, 1e-5)
    for state, weights in [("failed", None), ("completed", "2" * 64), ("completed", None)]:
        with pytest.raises(Conflict) as refused:
            close(engine, round_id, now, state, weights)  # type: ignore[arg-type]
        assert refused.value.rule == "round-closed"


def test_a_round_that_was_never_open_cannot_be_completed(
    engine: Engine, training_id: UUID, now: datetime
) -> None:
    with transaction(engine) as session:
        pending = rounds.list_rounds(session, training_id)[0].id
    with pytest.raises(Conflict, match="pending"):
        close(engine, pending, now)
    assert close(engine, pending, now, "failed", reason="cancelled").state == "failed"


def test_a_plan_pays_for_its_rounds_and_no_more(
    engine: Engine, open_round: Opener, round_id: UUID, training_id: UUID, now: datetime
) -> None:
    close(engine, round_id, now, weights="1" * 64)
    # Failed, but a masked update was released: it is spent.
    second = open_round()
    with transaction(engine) as session:
        messages.post_message(
            session,
            round_id=second,
            hospital_id="north",
            kind="upload",
            digest="d" * 64,
            size_bytes=1,
        )
    close(engine, second, now, "failed", reason="silent")

    with transaction(engine) as session:
        assert rounds.charged_rounds(session, training_id) == 2
    with pytest.raises(Conflict, match="privacy plan") as refused:
        open_round()
    assert refused.value.rule == "plan-spent"

    with transaction(engine) as session:
        closing = rounds.open_round(
            session,
            training_id=training_id,
            kind="evaluation",
            incoming_weights="1" * 64,
            flow_run_id=None,
            now=now,
        )
    assert (closing.number, closing.kind) == (3, "evaluation")


def test_a_round_in_which_nothing_was_released_costs_nothing(
    engine: Engine, open_round: Opener, round_id: UUID, training_id: UUID, now: datetime
) -> None:
    close(engine, round_id, now, "failed", reason="refused")
    with transaction(engine) as session:
        assert rounds.charged_rounds(session, training_id) == 0


def test_a_recorded_upload_counts_even_without_its_message(
    engine: Engine, round_id: UUID, training_id: UUID, now: datetime
) -> None:
    for state in ("enrolled", "uploaded", "lost"):
        with transaction(engine) as session:
            participations.set_participation(
                session,
                round_id=round_id,
                hospital_id="north",
                state=state,  # type: ignore[arg-type]
                now=now,
            )
    with transaction(engine) as session:
        assert rounds.charged_rounds(session, training_id) == 1


def test_an_ended_training_opens_no_round(
    engine: Engine, training_id: UUID, open_round: Opener, three_hospitals: tuple[str, ...]
) -> None:
    with transaction(engine) as session:
        trainings.close_training(session, training_id=training_id, state="failed", reason="x")
    with pytest.raises(Conflict, match="is failed") as refused:
        open_round()
    assert refused.value.rule == "training-closed"


def test_unknown_keys_are_named(engine: Engine, now: datetime) -> None:
    unknown = uuid4()
    with pytest.raises(NotFound, match=f"no round '{unknown}'"):
        close(engine, unknown, now)
    with transaction(engine) as session:
        with pytest.raises(NotFound, match=f"no training '{unknown}'"):
            rounds.open_round(
                session,
                training_id=unknown,
                kind="training",
                incoming_weights="0" * 64,
                flow_run_id=None,
                now=now,
            )
        assert rounds.list_rounds(session, unknown) == []


def test_an_opener_waits_for_a_closer(
    engine: Engine, open_round: Opener, round_id: UUID, now: datetime
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with transaction(engine) as session:
            rounds.close_round(session, round_id=round_id, state="failed", reason="x", now=now)
            opening = pool.submit(open_round)
            with engine.connect() as observer:
                while not observer.execute(
                    text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                ).scalar_one():
                    observer.rollback()
        assert opening.result(timeout=10) != round_id
