"""The roster: the public keys that a hospital's people compare before the first round."""

from __future__ import annotations

from typing import Any

import pytest

from api.auth.scopes import SCOPES
from db.queries import hospitals
from db.session import transaction

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def roster(api: Any, **caller: str) -> Any:
    return await api.client.get("/exchange/roster", headers=api.may(**caller))


@pytest.fixture
def entry(keys_made_by: Any) -> Any:
    """A hospital as the roster shows it, with the keys with which ``add_hospital`` joins it."""
    return lambda hospital_id: {"hospital_id": hospital_id, **keys_made_by(hospital_id).public}


def suspend(api: Any, hospital_id: str) -> None:
    with transaction(api.engine) as session:
        hospitals.set_hospital_state(session, hospital_id=hospital_id, state="suspended")


async def test_it_shows_ids_and_keys_of_the_hospitals_that_rounds_invite(
    api: Any, entry: Any
) -> None:
    for hospital_id in ("west", "north", "south"):
        await api.add_hospital(hospital_id)
    await api.add_hospital("east", with_keys=False)
    suspend(api, "south")
    before = api.contents()
    answer = await roster(api, hospital="north")
    assert answer.status_code == 200, answer.text
    assert answer.json() == [entry("north"), entry("west")]
    assert api.contents() == before


async def test_a_hospital_may_read_it_before_it_has_published_its_own_keys(
    api: Any, entry: Any
) -> None:
    await api.add_hospital("north")
    await api.add_hospital("east", with_keys=False)
    assert (await roster(api, hospital="east")).json() == [entry("north")]


async def test_a_suspended_hospital_does_not_see_it(api: Any) -> None:
    await api.add_hospital("north")
    suspend(api, "north")
    answer = await roster(api, hospital="north")
    assert answer.status_code == 403
    assert answer.json()["type"] == "/problems/hospital-suspended"


async def test_people_read_it_with_no_scope_of_theirs(api: Any) -> None:
    people = api.may(*(set(SCOPES) - {"exchange"}))
    answer = await api.client.get("/exchange/roster", headers=people)
    assert answer.status_code == 403
    assert answer.json()["type"] == "/problems/insufficient-scope"
    beyond_the_role = await api.client.get("/exchange/roster", headers=api.may("exchange"))
    assert beyond_the_role.json()["type"] == "/problems/insufficient-scope"
