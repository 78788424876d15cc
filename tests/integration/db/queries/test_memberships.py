"""A hospital's standing against what else goes on in the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.models import utc_now
from db.queries import hospitals, memberships

pytestmark = pytest.mark.integration


@pytest.fixture
def north(engine: Engine, keys_of: Callable[[str], dict[str, str]]) -> str:
    with Session(engine) as session, session.begin():
        hospitals.add_hospital(session, hospital_id="north", name="North")
        hospitals.publish_identity(session, hospital_id="north", **keys_of("north"))
        memberships.replace_secret(session, hospital_id="north", secret_digest="a" * 64)
    return "north"


def test_a_round_that_opens_waits_for_who_suspends_and_then_does_without(
    engine: Engine, north: str
) -> None:
    with Session(engine) as suspending, Session(engine) as opening:
        memberships.suspend(suspending, hospital_id=north, reason="x", now=utc_now())
        opening.execute(text("SET lock_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            hospitals.invitable_hospitals(opening, kept=True)
        opening.rollback()
        suspending.commit()
        assert hospitals.invitable_hospitals(opening, kept=True) == []


def test_who_suspends_waits_for_a_round_that_opens(engine: Engine, north: str) -> None:
    with Session(engine) as opening, Session(engine) as suspending:
        assert [h.id for h in hospitals.invitable_hospitals(opening, kept=True)] == [north]
        suspending.execute(text("SET lock_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            memberships.suspend(suspending, hospital_id=north, reason="x", now=utc_now())


@pytest.mark.parametrize(
    ("change", "generation"),
    [
        (lambda s: memberships.replace_secret(s, hospital_id="north", secret_digest="a" * 64), 1),
        (lambda s: memberships.replace_secret(s, hospital_id="north", secret_digest="b" * 64), 2),
        (lambda s: memberships.suspend(s, hospital_id="north", reason="x", now=utc_now()), 2),
        (lambda s: memberships.end(s, hospital_id="north", reason="x", now=utc_now()), 2),
        (lambda s: memberships.readmit(s, hospital_id="north"), 1),
    ],
)
def test_each_new_secret_and_each_shutting_out_begins_a_generation(
    engine: Engine, north: str, change: Callable[[Session], Any], generation: int
) -> None:
    with Session(engine) as session, session.begin():
        change(session)
        assert memberships.generation_of(session, "north") == generation


def test_who_has_never_joined_has_no_generation(session: Session) -> None:
    memberships.invite(session, hospital_id="south", name="South", again=False)
    assert memberships.generation_of(session, "south") == 0
    assert memberships.suspend(session, hospital_id="south", reason="x", now=utc_now())
    assert memberships.readmit(session, hospital_id="south")
    assert hospitals.get_hospital(session, "south").state == "invited"
