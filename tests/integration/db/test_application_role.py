from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool

from db.queries import (
    audit,
    hospitals,
    join_codes,
    memberships,
    messages,
    models,
    participations,
    rounds,
    sign_ins,
    standing,
    tokens,
    trainings,
    users,
)
from db.session import transaction

pytestmark = pytest.mark.integration

DOCUMENT = Path(__file__).parents[3] / "docs" / "database.md"
ROLE = "fedmed_app"


@pytest.fixture
def restricted(engine: Engine) -> Iterator[Engine]:
    """An engine of the role that the document tells an administrator to make."""
    (statements,) = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert f"CREATE ROLE {ROLE} " in statements
    with engine.begin() as connection:
        connection.execute(text(statements))
    yield create_engine(engine.url.set(username=ROLE), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {ROLE}"))
        connection.execute(text(f"DROP ROLE {ROLE}"))


def test_the_documented_role_is_enough_for_signing_in(restricted: Engine, now: datetime) -> None:
    with transaction(restricted) as session:
        users.add_user(session, username="ada", password_hash="x", role="operator")
        users.set_user_role(session, username="ada", role="operator")
        for _ in range(2):
            sign_ins.record_failure(session, key="k", bound=sign_ins.ADDRESS, now=now)
        sign_ins.clear(session, "k")
        sign_ins.purge(session, now=now)
        tokens.revoke(session, jti=uuid4(), expires_at=now, now=now)
        found = standing.of_user(session, username="ada", jti=uuid4())
        assert found is not None
        assert not found.revoked


def test_the_documented_role_is_enough_for_joining_and_leaving(
    restricted: Engine, now: datetime, keys_of: Callable[[str], dict[str, str]]
) -> None:
    with transaction(restricted) as session:
        memberships.invite(session, hospital_id="north", name="North", again=False)
        for digest in ("1" * 64, "2" * 64):  # the second ends the first
            join_codes.issue_code(
                session,
                hospital_id="north",
                digest=digest,
                created_by="ada",
                valid_for=timedelta(days=7),
                now=now,
            )
        memberships.join(
            session, code_digest="2" * 64, secret_digest="3" * 64, now=now, **keys_of("north")
        )
        assert memberships.end(session, hospital_id="north", reason="left", now=now)


def test_the_documented_role_is_enough_for_a_whole_training(
    restricted: Engine, now: datetime, keys_of: Callable[[str], dict[str, str]]
) -> None:
    with transaction(restricted) as session:
        for hospital_id in ("a", "b", "c"):
            hospitals.add_hospital(session, hospital_id=hospital_id, name=hospital_id)
            hospitals.publish_identity(session, hospital_id=hospital_id, **keys_of(hospital_id))
        model = models.add_model(session, name="heart", spec={})
        training = trainings.add_training(
            session,
            model_id=model.id,
            rounds=1,
            strategy={},
            plan={},
            epsilon=1.0,
            delta=1e-5,
            least_cohort=3,
            round_deadline_s=60.0,
            requested_by="ada",
        )
        opened = rounds.open_round(
            session,
            training_id=training.id,
            kind="training",
            incoming_weights="0" * 64,
            flow_run_id=None,
            now=now,
        )
    with transaction(restricted) as session:
        messages.post_message(
            session,
            round_id=opened.id,
            hospital_id="a",
            kind="enrolment",
            digest="d" * 64,
            size_bytes=1,
        )
        participations.set_participation(
            session, round_id=opened.id, hospital_id="a", state="enrolled", now=now
        )
    with transaction(restricted) as session:
        rounds.close_round(session, round_id=opened.id, state="completed", now=now)
        trainings.advance_training(
            session, training_id=training.id, weights="1" * 64, strategy_state=None
        )
        trainings.close_training(session, training_id=training.id, state="completed")
        audit.append_event(
            session, actor="coordinator", action="x", subject="y", details={}, now=now
        )
        assert audit.verify_chain(session) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET actor = 'nobody'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "DROP TRIGGER audit_events_append_only ON audit_events",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
    ],
)
def test_it_cannot_touch_the_audit_record(restricted: Engine, statement: str) -> None:
    with (
        restricted.connect() as connection,
        pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
    ):
        connection.execute(text(statement))
