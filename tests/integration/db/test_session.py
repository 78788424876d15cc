from __future__ import annotations

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from db.models import Hospital
from db.queries import hospitals
from db.session import transaction

pytestmark = pytest.mark.integration


def test_rows_stay_readable_after_the_commit(engine: Engine) -> None:
    with transaction(engine) as session:
        added = hospitals.add_hospital(session, hospital_id="north", name="North")

    assert (added.id, added.state, added.signing_key) == ("north", "active", None)
    assert added.created_at.utcoffset() is not None


def test_an_exception_takes_everything_back(engine: Engine) -> None:
    def add_and_change_my_mind() -> None:
        with transaction(engine) as session:
            hospitals.add_hospital(session, hospital_id="north", name="North")
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        add_and_change_my_mind()

    with transaction(engine) as session:
        assert session.get(Hospital, "north") is None


def test_connections_are_set_up_whatever_the_server_prefers(engine: Engine) -> None:
    with engine.connect() as connection:
        for name, value in [("transaction_isolation", "read committed"), ("timezone", "UTC")]:
            assert connection.execute(text(f"SHOW {name}")).scalar_one() == value


def test_an_error_shows_nothing_of_what_was_written(engine: Engine) -> None:
    """It goes to a log, and what is written may be the hash of a secret."""
    with pytest.raises(DBAPIError) as refused, engine.begin() as connection:
        connection.execute(text("SELECT CAST(:given AS integer)"), {"given": "a" * 40})
    assert "[SQL parameters hidden due to hide_parameters=True]" in str(refused.value)
