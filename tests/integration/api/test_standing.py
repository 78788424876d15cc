"""A token counts for as long as its subject stands: at the very next request, in every process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest
from anyio import to_thread
from jose import jwt
from sqlalchemy import Engine, event, text, update

from api.auth.guard import admit, admit_hospital_async
from api.auth.standing import Standings
from api.errors import Problem
from db.models import Client
from db.notify import REVOKED, STANDING, USERS, Notice, notify
from db.queries import hospitals, tokens, users
from db.session import transaction

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@contextmanager
def counting_statements(engine: Engine) -> Iterator[list[str]]:
    found: list[str] = []

    def note(*arguments: Any) -> None:
        found.append(arguments[2])

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.001)


@pytest.fixture
async def north(api: Any) -> dict[str, str]:
    """An active hospital's header, remembered by the API."""
    await api.add_hospital("north")
    await all_was_heard(api)
    header = api.may(hospital="north")
    assert (await roster(api, header)).status_code == 200
    return header


async def all_was_heard(api: Any) -> None:
    """Until the notices of what was committed before, such as of joining, have arrived."""
    standings, heard = api.services.standings, []
    hear, last = standings.heard, Notice(round_id=None, hospital_id="the last", kind=REVOKED)

    def note(notice: Notice) -> None:
        hear(notice)
        heard.append(notice)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(standings, "heard", note)
        await until(lambda: standings._listening)
        with transaction(api.engine) as session:
            notify(session, round_id=None, hospital_id=last.hospital_id, kind=last.kind)
        await until(lambda: last in heard)


async def roster(api: Any, header: dict[str, str]) -> Any:
    return await api.client.get("/exchange/roster", headers=header)


def suspend(engine: Engine, hospital_id: str) -> None:
    """As another process does: all that this one gets is the notice."""
    with transaction(engine) as session:
        hospitals.set_hospital_state(session, hospital_id=hospital_id, state="suspended")
        notify(session, round_id=None, hospital_id=hospital_id, kind=STANDING)


def replace_secret(engine: Engine, hospital_id: str) -> None:
    with transaction(engine) as session:
        session.execute(
            update(Client)
            .where(Client.hospital_id == hospital_id)
            .values(generation=Client.generation + 1)
        )
        notify(session, round_id=None, hospital_id=hospital_id, kind=STANDING)


def remembered(api: Any, header: dict[str, str]) -> bool:
    token = api.services.tokens.verify(header["Authorization"].removeprefix("Bearer "))
    return api.services.standings.known(token) is not None


async def test_who_stands_well_is_asked_about_once(api: Any, north: dict[str, str]) -> None:
    with counting_statements(api.services.engine) as statements:
        caller = await admit_hospital_async(api.services, north["Authorization"])
    assert statements == []
    assert (caller.hospital_id, caller.subject) == ("north", "hospital:north")
    claims = jwt.get_unverified_claims(north["Authorization"].removeprefix("Bearer "))
    assert caller.token_id == UUID(claims["jti"])
    assert caller.expires_at is not None
    assert caller.expires_at.timestamp() == claims["exp"]
    assert await admit_hospital_async(api.services, north["Authorization"]) == caller


async def test_who_is_new_costs_one_statement(api: Any, north: dict[str, str]) -> None:
    for header in (api.may(hospital="north"), api.may("training:read")):
        with counting_statements(api.services.engine) as statements:
            await to_thread.run_sync(
                lambda header=header: admit(api.services, header["Authorization"], scopes=[])
            )
        assert len(statements) == 1


async def test_a_suspended_hospital_is_out_at_once(api: Any, north: dict[str, str]) -> None:
    suspend(api.engine, "north")
    await until(lambda: not remembered(api, north))
    answer = await roster(api, north)
    assert answer.status_code == 403
    assert answer.json()["type"] == "/problems/hospital-suspended"
    assert "north is suspended" in answer.json()["detail"]
    # A bad standing is not remembered: who is taken back need not wait.
    with transaction(api.engine) as session:
        hospitals.set_hospital_state(session, hospital_id="north", state="active")
    assert (await roster(api, north)).status_code == 200


async def test_a_replaced_secret_ends_the_tokens_of_the_last(
    api: Any, north: dict[str, str]
) -> None:
    replace_secret(api.engine, "north")
    await until(lambda: not remembered(api, north))
    answer = await roster(api, north)
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert (await roster(api, api.may(hospital="north"))).status_code == 200


async def test_a_revoked_token_is_out_and_no_other(api: Any, north: dict[str, str]) -> None:
    other = api.may(hospital="north")
    assert (await roster(api, other)).status_code == 200
    token = api.services.tokens.verify(north["Authorization"].removeprefix("Bearer "))
    with transaction(api.engine) as session:
        tokens.revoke(
            session, jti=token.token_id, expires_at=token.expires_at, now=api.services.now()
        )
    await until(lambda: not remembered(api, north))
    assert remembered(api, other)
    assert (await roster(api, north)).status_code == 401
    assert (await roster(api, other)).status_code == 200


async def test_a_suspended_person_is_out_and_stays_out_with_the_old_token(api: Any) -> None:
    await until(lambda: api.services.standings._listening)
    ada = {"Authorization": f"Bearer {api.token('training:read', user='ada')}"}
    assert (await api.client.get("/models", headers=ada)).status_code == 200
    with transaction(api.engine) as session:
        users.set_user_state(session, username="ada", state="suspended")
    await until(lambda: not remembered(api, ada))
    for state in ("suspended", "active"):
        with transaction(api.engine) as session:
            users.set_user_state(session, username="ada", state=state)
        answer = await api.client.get("/models", headers=ada)
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_a_person_of_another_role_can_do_no_more_than_it_allows(api: Any) -> None:
    await until(lambda: api.services.standings._listening)
    ada = {"Authorization": f"Bearer {api.token('training:read', 'hospitals:write', user='ada')}"}
    assert (await api.client.get("/models", headers=ada)).status_code == 200
    with transaction(api.engine) as session:
        users.set_user_role(session, username="ada", role="scientist")
    await until(lambda: not remembered(api, ada))
    assert (await api.client.get("/models", headers=ada)).status_code == 200
    refused = await api.client.post("/hospitals", json={}, headers=ada)
    assert refused.status_code == 403
    assert refused.json()["type"] == "/problems/insufficient-scope"


async def test_a_current_token_of_a_suspended_person(api: Any) -> None:
    with transaction(api.engine) as session:
        users.add_user(session, username="ada", password_hash="x", role="scientist")
        users.set_user_state(session, username="ada", state="suspended")
    ada = {"Authorization": f"Bearer {api.token('training:read', user='ada')}"}
    answer = await api.client.get("/models", headers=ada)
    assert answer.status_code == 401
    assert "suspended" in answer.json()["detail"]


async def test_nothing_is_taken_from_memory_while_nobody_listens(
    api: Any, north: dict[str, str]
) -> None:
    with api.engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE query = 'LISTEN fedmed' AND datname = current_database()"
            )
        )
        # Without a notice: only the database knows.
        connection.execute(text("UPDATE hospitals SET state = 'suspended'"))
    await until(lambda: not remembered(api, north))
    assert (await roster(api, north)).status_code == 403
    await until(lambda: api.services.standings._listening)  # it listens again


async def test_a_process_that_does_not_listen_reads_each_time(api: Any) -> None:
    standings = Standings(api.engine)
    token = api.services.tokens.verify(api.token("training:read"))
    for _ in range(2):
        assert standings.look_up(token) is not None
        assert standings.known(token) is None


async def test_a_remembered_token_expires(
    api: Any, north: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = datetime.now(UTC) + timedelta(seconds=301)
    monkeypatch.setattr(api.services.tokens, "_clock", lambda: later)
    assert (await roster(api, north)).status_code == 401


async def test_a_reading_from_before_a_change_is_not_remembered(
    api: Any, north: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    standings = api.services.standings
    header = api.may(hospital="north")
    token = api.services.tokens.verify(header["Authorization"].removeprefix("Bearer "))
    read = standings._read

    def read_and_change(given: Any) -> Any:
        found = read(given)
        standings.forget_subject("hospital:north")  # a notice arrives before it is remembered
        return found

    monkeypatch.setattr(standings, "_read", read_and_change)
    assert standings.look_up(token) is not None
    assert standings.known(token) is None


async def test_notices_about_others_change_nothing(api: Any, north: dict[str, str]) -> None:
    person = api.may("training:read")
    assert (await api.client.get("/models", headers=person)).status_code == 200
    others = [("south", STANDING), ("not an id", REVOKED), ("", REVOKED), ("north", "upload")]
    for hospital_id, kind in others:
        with transaction(api.engine) as session:
            notify(session, round_id=None, hospital_id=hospital_id, kind=kind)
    with transaction(api.engine) as session:
        notify(session, round_id=None, hospital_id="", kind=USERS)
    await until(lambda: not remembered(api, person))  # the last was heard, and so were the others
    assert remembered(api, north)
    with transaction(api.engine) as session:
        notify(session, round_id=None, hospital_id="", kind=STANDING)
    await until(lambda: not remembered(api, north))


async def test_a_hospital_that_has_left_gets_the_reason(api: Any, north: dict[str, str]) -> None:
    with transaction(api.engine) as session:
        hospitals.set_hospital_state(session, hospital_id="north", state="left")
    api.services.standings.forget_subject("hospital:north")
    with pytest.raises(Problem, match="north has left"):
        await admit_hospital_async(api.services, north["Authorization"])
