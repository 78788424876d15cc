"""Inviting and joining: a code is used once, by whoever holds the keys it is used for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from jose import jwt
from sqlalchemy import text

from api.auth.passwords import secret_digest
from db.models import utc_now
from db.notify import STANDING, Listener, Notice
from fl.joining import code_digest, parse_join_code

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
def north(keys_made_by: Any) -> Any:
    return keys_made_by("north")


async def code_for(api: Any, name: str = "North", **options: Any) -> str:
    invited = await api.invite(name, **options)
    assert invited.status_code == 201, invited.text
    return str(invited.json()["join_code"])


def refused(answer: Any) -> bool:
    assert answer.json()["detail"].startswith("this join code cannot be used")
    return bool((answer.status_code, answer.json()["type"]) == (410, "/problems/join-code-refused"))


async def token(api: Any, keys: Any, client_id: str = "north") -> Any:
    form = {"client_id": client_id, "client_secret": keys.secret}
    return await api.client.post("/oauth/token", data={"grant_type": "client_credentials", **form})


async def test_an_invited_hospital_has_a_code_and_nothing_else(api: Any) -> None:
    answer = await api.invite("Charité Nord", valid_days=2)
    invited = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert invited["hospital_id"] == "charite-nord"
    code = invited["join_code"]
    assert invited["command"] == f"fedmed hospital join {api.settings.api_url} {code}"
    (stored,) = api.contents()["join_codes"]
    assert stored.digest == code_digest(parse_join_code(code))
    assert stored.created_by == "user:test"
    assert timedelta(days=1.99) < stored.expires_at - utc_now() < timedelta(days=2)
    assert code not in str(api.contents())
    assert parse_join_code(code) not in str(api.contents())
    assert not api.contents()["clients"]
    assert not api.prefect.pools
    (shown,) = await api.get("/hospitals", "training:read")
    assert (shown["state"], shown["signing_key"]) == ("invited", None)


async def test_a_hospital_joins_with_what_it_has_made_itself(api: Any, north: Any) -> None:
    code = await code_for(api)
    answer = await api.join(code, north)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "hospital_id": "north",
        "client_id": "north",
        "name": "North",
        "roster": [{"hospital_id": "north", **north.public}],
    }
    assert "hospital-north" in api.prefect.pools
    assert "hospital-round/north" in api.prefect.deployments
    (client,) = api.contents()["clients"]
    assert (client.secret_digest, client.generation) == (secret_digest(north.secret), 1)
    assert north.secret not in str(api.contents())
    granted = await token(api, north)
    assert jwt.get_unverified_claims(granted.json()["access_token"])["hospital_id"] == "north"
    events = await api.get("/audit/events", "audit:read")
    assert [(e["actor"], e["action"]) for e in events] == [
        ("user:test", "hospital.invited"),
        ("hospital:north", "hospital.joined"),
    ]
    assert code not in str(events)


async def test_a_code_that_is_used_serves_nobody_else(
    api: Any, north: Any, keys_made_by: Any
) -> None:
    code = await code_for(api)
    await api.join(code, north)
    before = api.contents()
    assert refused(await api.join(code, keys_made_by("thief")))
    assert api.contents() == before
    again = await api.join(code, north)  # its answer was lost on the way
    assert again.status_code == 200
    assert api.contents() == before


async def test_of_two_who_race_with_one_code_one_joins(api: Any, keys_made_by: Any) -> None:
    code = await code_for(api)
    racers = [keys_made_by(f"racer {number}") for number in range(6)]
    answers = await asyncio.gather(*(api.join(code, keys) for keys in racers))
    assert sorted(answer.status_code for answer in answers) == [200, *(5 * [410])]
    (winner,) = (k for k, a in zip(racers, answers, strict=True) if a.status_code == 200)
    (hospital,) = api.contents()["hospitals"]
    assert hospital.signing_key == winner.public["signing_key"]
    assert len(api.contents()["clients"]) == 1


async def test_an_expired_code(api: Any, north: Any) -> None:
    code = await code_for(api)
    with api.engine.begin() as connection:
        past = "created_at = now() - interval '8 days', expires_at = now() - interval '1 second'"
        connection.execute(text(f"UPDATE join_codes SET {past}"))  # noqa: S608 (our own text)
    before = api.contents()
    assert refused(await api.join(code, north))
    assert api.contents() == before


async def test_a_second_invitation_makes_the_first_code_useless(api: Any, north: Any) -> None:
    first = await code_for(api)
    second = await code_for(api, again=True)
    assert refused(await api.join(first, north))
    assert (await api.join(second, north)).status_code == 200


async def test_a_code_that_nobody_was_given(api: Any, north: Any) -> None:
    await code_for(api)
    before = api.contents()
    assert refused(await api.join("0" * 28, north))
    assert api.contents() == before


async def test_a_mistyped_code_is_told_from_a_refused_one(api: Any, north: Any) -> None:
    code = await code_for(api)
    request = north.join_request(code)
    altered = ("1" if code[0] == "0" else "0") + code[1:]
    answer = await api.client.post("/hospitals/join", json=request | {"code": altered})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "code"
    assert altered not in answer.text


@pytest.mark.parametrize(
    "changed", ["signing_key", "sealing_key", "client_secret_sha256", "proof", "code"]
)
async def test_nothing_can_be_changed_under_the_proof(api: Any, north: Any, changed: str) -> None:
    code, other = await code_for(api), await code_for(api, "South")
    values = {"proof": "0" * 128, "code": other}
    before = api.contents()
    request = north.join_request(code) | {changed: values.get(changed, "a" * 64)}
    answer = await api.client.post("/hospitals/join", json=request)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "proof"
    assert api.contents() == before


async def test_a_key_of_another_hospital_is_refused(
    api: Any, north: Any, keys_made_by: Any
) -> None:
    await api.add_hospital("north")
    code = await code_for(api, "South")
    before = api.contents()
    answer = await api.join(code, north)
    assert answer.json()["errors"][0]["rule"] == "identity-taken"
    assert api.contents() == before  # the code is not spent
    assert (await api.join(code, keys_made_by("south"))).status_code == 200


@pytest.mark.parametrize("failure", ["down", "refuses"])
async def test_without_prefect_nobody_joins_and_the_code_is_not_spent(
    api: Any, north: Any, failure: str
) -> None:
    code = await code_for(api)
    before = api.contents()
    setattr(api.prefect, failure, True)
    answer = await api.join(code, north)
    assert answer.status_code == 503
    assert answer.json()["type"].startswith("/problems/prefect-")
    assert api.contents() == before
    setattr(api.prefect, failure, False)
    assert (await api.join(code, north)).status_code == 200


async def test_a_hospital_that_lost_its_keys_joins_again(
    api: Any, north: Any, keys_made_by: Any
) -> None:
    await api.add_hospital("north")
    round_id = await api.open_round("north", "south", "west")
    code = await code_for(api, "Another name", hospital_id="north", again=True)
    assert (await token(api, north)).status_code == 200  # until it has joined again
    with Listener(api.engine) as listener:
        new = keys_made_by("north, anew")
        assert (await api.join(code, new)).json()["name"] == "North"
        standing = Notice(round_id=None, hospital_id="north", kind=STANDING)
        assert standing in listener.wait(5)
    assert (await token(api, north)).status_code == 401
    assert (await token(api, new)).status_code == 200
    assert [c.generation for c in api.contents()["clients"] if c.client_id == "north"] == [2]
    (part,) = (p for p in api.contents()["participations"] if p.hospital_id == "north")
    assert (part.round_id, part.state, part.reason_code) == (round_id, "lost", "joined-again")


async def test_who_is_kept_out_is_not_invited_and_cannot_join(api: Any, north: Any) -> None:
    code = await code_for(api)
    may = api.may("hospitals:write")
    await api.client.post("/hospitals/north/suspend", json={}, headers=may)
    assert refused(await api.join(code, north))
    answer = await api.invite("North", again=True)
    assert answer.json()["errors"][0]["rule"] == "hospital-suspended"
    await api.client.post("/hospitals/north/readmit", headers=may)
    assert refused(await api.join(code, north))  # suspending it has ended its code
    assert (await api.get("/hospitals/north", "training:read"))["state"] == "invited"
    assert (await api.join(await code_for(api, again=True), north)).status_code == 200


async def test_nobody_who_is_unknown_is_invited_again(api: Any) -> None:
    answer = await api.invite("North", again=True)
    assert answer.status_code == 404
    assert api.contents()["hospitals"] == []
