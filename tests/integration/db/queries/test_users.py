from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from db.errors import AlreadyExists, Conflict, NotFound
from db.models import UserState
from db.notify import Listener, Notice
from db.queries import users
from db.session import transaction

pytestmark = pytest.mark.integration

CHANGED = Notice(round_id=None, hospital_id="", kind="users")


@pytest.fixture(autouse=True)
def operators(engine: Engine) -> None:
    with transaction(engine) as session:
        for username in ("ada", "bob"):
            users.add_user(session, username=username, password_hash="x", role="operator")


def generation(engine: Engine, username: str) -> int:
    with transaction(engine) as session:
        return users.get_user(session, username).generation


def test_a_name_is_given_once(engine: Engine) -> None:
    with transaction(engine) as session, pytest.raises(AlreadyExists):
        users.add_user(session, username="ada", password_hash="y", role="scientist")
    with transaction(engine) as session:
        assert [user.username for user in users.list_users(session)] == ["ada", "bob"]
        with pytest.raises(NotFound):
            users.set_password(session, username="eve", password_hash="y")


def test_what_takes_something_away_begins_a_generation_and_wakes_all(engine: Engine) -> None:
    with Listener(engine) as listener:
        with transaction(engine) as session:
            users.set_user_state(session, username="ada", state="suspended")
        assert (generation(engine, "ada"), listener.wait(10.0)) == (2, [CHANGED])
        with transaction(engine) as session:
            users.set_user_state(session, username="ada", state="active")
        assert (generation(engine, "ada"), listener.wait(10.0)) == (2, [CHANGED])
        with transaction(engine) as session:
            users.set_password(session, username="ada", password_hash="y")
        assert (generation(engine, "ada"), listener.wait(10.0)) == (3, [CHANGED])
        with transaction(engine) as session:
            users.set_user_role(session, username="ada", role="scientist")
        assert (generation(engine, "ada"), listener.wait(10.0)) == (3, [CHANGED])


def test_two_operators_cannot_suspend_each_other(engine: Engine) -> None:
    def suspend(username: str) -> UserState | str:
        try:
            with transaction(engine) as session:
                return users.set_user_state(session, username=username, state="suspended").state
        except Conflict as error:
            return error.rule

    for _ in range(10):
        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(suspend, ("ada", "bob"))) == ["last-operator", "suspended"]
        with transaction(engine) as session:
            for username in ("ada", "bob"):
                users.set_user_state(session, username=username, state="active")


def test_the_last_operator_keeps_the_role(engine: Engine) -> None:
    with transaction(engine) as session:
        users.set_user_role(session, username="bob", role="compliance")
    with transaction(engine) as session, pytest.raises(Conflict, match="ada is the last active"):
        users.set_user_role(session, username="ada", role="scientist")
    with transaction(engine) as session:
        assert users.set_user_role(session, username="ada", role="operator").role == "operator"
