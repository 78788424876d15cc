"""Suspended, taken back, ended, left, re-keyed: at once, told to all, and written down."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.auth.passwords import secret_digest
from db.models import utc_now
from db.notify import STANDING, Listener, Notice
from fl.joining import replacement_statement

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

STANDING_OF_NORTH = Notice(round_id=None, hospital_id="north", kind=STANDING)


async def token(api: Any, secret: str) -> Any:
    form = {"grant_type": "client_credentials", "client_id": "north", "client_secret": secret}
    return await api.client.post("/oauth/token", data=form)


async def decide(api: Any, verb: str, **body: str) -> Any:
    return await api.client.post(
        f"/hospitals/north/{verb}", json=body, headers=api.may("hospitals:write")
    )


async def as_north(api: Any, method: str, path: str, **options: Any) -> Any:
    return await api.client.request(method, path, headers=api.may(hospital="north"), **options)


async def actions(api: Any) -> list[str]:
    events = await api.get("/audit/events?subject=hospital:north", "audit:read")
    return [event["action"] for event in events][2:]  # after invited and joined


def generation(api: Any) -> int:
    return next(c.generation for c in api.contents()["clients"] if c.client_id == "north")


@pytest.fixture
async def secret(api: Any) -> str:
    return str((await api.add_hospital("north"))["client_secret"])


@pytest.mark.parametrize("verb", ["suspend", "end"])
async def test_who_is_kept_out_is_refused_at_the_next_request(
    api: Any, secret: str, verb: str
) -> None:
    with Listener(api.engine) as listener:
        answer = await decide(api, verb, reason="its keys were stolen")
        assert answer.status_code == 200, answer.text
        assert STANDING_OF_NORTH in listener.wait(5)
    state = {"suspend": "suspended", "end": "left"}[verb]
    assert answer.json()["state"] == state
    for method, path in [
        ("GET", "/exchange/roster"),
        ("GET", "/exchange/models"),
        ("PUT", "/hospitals/north/credential"),
        ("POST", "/hospitals/north/leave"),
    ]:
        body = {"client_secret_sha256": "a" * 64} if method == "PUT" else None
        told = await as_north(api, method, path, json=body)
        assert (told.status_code, told.json()["type"]) == (403, f"/problems/hospital-{state}")
    assert (await token(api, secret)).status_code in (400, 401)
    assert generation(api) == 2
    assert await actions(api) == [{"suspend": "hospital.suspended", "end": "hospital.ended"}[verb]]
    before = api.contents()
    assert (await decide(api, verb)).status_code == 200  # again
    assert api.contents() == before


@pytest.mark.parametrize("way", ["suspend", "end", "leave", "another secret", "joined again"])
async def test_the_process_that_made_the_change_waits_for_no_notice(
    api: Any, secret: str, keys_made_by: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    standings = api.services.standings
    monkeypatch.setattr(standings, "heard", lambda notice: None)
    async with asyncio.timeout(10):
        while not standings._listening:
            await asyncio.sleep(0.005)
    header = api.may(hospital="north")
    token_held = api.services.tokens.verify(header["Authorization"].removeprefix("Bearer "))
    assert (await api.client.get("/exchange/roster", headers=header)).status_code == 200
    assert standings.known(token_held) is not None
    if way == "leave":
        await as_north(api, "POST", "/hospitals/north/leave")
    elif way == "another secret":
        body = {"client_secret_sha256": secret_digest("new")}
        await as_north(api, "PUT", "/hospitals/north/credential", json=body)
    elif way == "joined again":
        code = (await api.invite("North", hospital_id="north", again=True)).json()["join_code"]
        assert (await api.join(code, keys_made_by("north, anew"))).status_code == 200
    else:
        await decide(api, way)
    refused = await api.client.get("/exchange/roster", headers=header)
    assert refused.status_code == 401  # of the generation before


async def test_who_is_taken_back_signs_in_with_what_it_had(api: Any, secret: str) -> None:
    await decide(api, "suspend")
    with Listener(api.engine) as listener:
        assert (await decide(api, "readmit")).json()["state"] == "active"
        assert STANDING_OF_NORTH in listener.wait(5)
    assert (await token(api, secret)).status_code == 200
    assert (await as_north(api, "GET", "/exchange/roster")).status_code == 200
    before = api.contents()
    assert (await decide(api, "readmit")).json()["state"] == "active"
    assert api.contents() == before
    assert await actions(api) == ["hospital.suspended", "hospital.readmitted"]


async def test_who_has_left_returns_with_a_new_code_only(
    api: Any, secret: str, keys_made_by: Any
) -> None:
    left = await as_north(api, "POST", "/hospitals/north/leave")
    assert left.json()["state"] == "left"
    for verb in ("suspend", "readmit"):
        answer = await decide(api, verb)
        assert (answer.status_code, answer.json()["errors"][0]["rule"]) == (409, "hospital-left")
    assert (await token(api, secret)).status_code == 401
    assert await actions(api) == ["hospital.left"]
    invited = await api.invite("North", again=True)
    assert (await api.get("/hospitals/north", "training:read"))["state"] == "invited"
    assert (await token(api, secret)).status_code == 401
    joined = await api.join(invited.json()["join_code"], keys_made_by("north"))
    assert joined.status_code == 200, joined.text
    assert (await token(api, secret)).status_code == 200


@pytest.mark.parametrize("way", ["suspend", "end", "leave"])
async def test_an_open_round_goes_on_without_it_at_once(api: Any, secret: str, way: str) -> None:
    round_id = await api.open_round("north", "south", "west")
    if way == "leave":
        await as_north(api, "POST", "/hospitals/north/leave")
    else:
        await decide(api, way, reason="its keys were stolen")
    parts = {p.hospital_id: p for p in api.contents()["participations"]}
    assert {name: part.state for name, part in parts.items()} == {
        "north": "lost",
        "south": "invited",
        "west": "invited",
    }
    code = {"suspend": "suspended", "end": "left", "leave": "left"}[way]
    assert (parts["north"].reason_code, parts["north"].ended_at <= utc_now()) == (code, True)
    assert (way == "leave") or "its keys were stolen" in parts["north"].reason
    told = await as_north(api, "GET", f"/exchange/rounds/{round_id}/cohort")
    assert told.status_code == 403


async def test_what_a_round_has_of_it_already_stays(api: Any, secret: str) -> None:
    round_id = await api.open_round("north", "south", "west")
    api.close(round_id, state="failed", reason="over")
    before = api.contents()["participations"]
    await decide(api, "suspend")
    assert api.contents()["participations"] == before


async def test_a_held_poll_ends_when_its_hospital_is_suspended(api: Any, secret: str) -> None:
    round_id = await api.open_round("north", "south", "west")
    path = f"/exchange/rounds/{round_id}/cohort"
    poll = asyncio.create_task(as_north(api, "GET", path, params={"wait_s": 30}))
    async with asyncio.timeout(10):
        while not api.services.hub.waiting:
            await asyncio.sleep(0.005)
    await decide(api, "suspend")
    answer = await asyncio.wait_for(poll, timeout=15)
    assert answer.json()["type"] == "/problems/hospital-suspended"


async def test_a_new_secret_is_the_only_one(api: Any, secret: str) -> None:
    body = {"client_secret_sha256": secret_digest("new")}
    with Listener(api.engine) as listener:
        answer = await as_north(api, "PUT", "/hospitals/north/credential", json=body)
        assert answer.status_code == 200, answer.text
        assert STANDING_OF_NORTH in listener.wait(5)
    assert (await token(api, secret)).status_code == 401
    assert (await token(api, "new")).status_code == 200
    assert generation(api) == 2
    before = api.contents()
    await as_north(api, "PUT", "/hospitals/north/credential", json=body)  # the answer was lost
    assert api.contents() == before
    assert await actions(api) == ["hospital.credential-replaced"]


def replacement(old: Any, new: Any, **changes: Any) -> dict[str, str]:
    statement = replacement_statement(
        **{
            "hospital_id": "north",
            "old_signing_key": old.public["signing_key"],
            **new.public,
        }
        | changes
    )
    return {**new.public, "signature": old.sign(statement), "proof": new.sign(statement)}


async def test_new_keys_are_signed_by_the_old_and_the_new_ones(
    api: Any, secret: str, keys_made_by: Any
) -> None:
    old, new, thief = map(keys_made_by, ("north", "north, anew", "thief"))
    good = replacement(old, new)
    before = api.contents()
    for body, field in [
        (good | {"signature": replacement(thief, new)["signature"]}, "signature"),
        (good | {"proof": replacement(old, thief)["proof"]}, "proof"),
        (good | {"sealing_key": "a" * 64}, "signature"),
        (replacement(old, new, hospital_id="south"), "signature"),
    ]:
        answer = await as_north(api, "POST", "/hospitals/north/identity", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert api.contents() == before
    with Listener(api.engine) as listener:
        answer = await as_north(api, "POST", "/hospitals/north/identity", json=good)
        assert answer.json()["signing_key"] == new.public["signing_key"]
        assert STANDING_OF_NORTH in listener.wait(5)
    before = api.contents()
    again = await as_north(api, "POST", "/hospitals/north/identity", json=good)
    assert again.json() == answer.json()
    assert api.contents() == before
    assert await actions(api) == ["hospital.identity-replaced"]


async def test_keys_stay_while_a_round_is_open(api: Any, secret: str, keys_made_by: Any) -> None:
    body = replacement(keys_made_by("north"), keys_made_by("north, anew"))
    round_id = await api.open_round("north", "south", "west")
    before = api.contents()
    answer = await as_north(api, "POST", "/hospitals/north/identity", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["rule"]) == (409, "round-open")
    assert api.contents() == before
    api.close(round_id, state="failed", reason="over")
    answer = await as_north(api, "POST", "/hospitals/north/identity", json=body)
    assert answer.status_code == 200


async def test_no_hospital_acts_for_another(api: Any, secret: str, keys_made_by: Any) -> None:
    await api.add_hospital("south")
    before = api.contents()
    body = replacement(keys_made_by("north"), keys_made_by("x"))
    for method, path, content in [
        ("PUT", "/hospitals/north/credential", {"client_secret_sha256": "a" * 64}),
        ("POST", "/hospitals/north/identity", body),
        ("POST", "/hospitals/north/leave", None),
    ]:
        answer = await api.client.request(
            method, path, json=content, headers=api.may(hospital="south")
        )
        assert answer.json()["type"] == "/problems/another-hospital"
    assert api.contents() == before


async def test_models_are_shown_with_their_contracts(api: Any, secret: str) -> None:
    await api.add_model()
    (model,) = (await as_north(api, "GET", "/exchange/models")).json()
    assert (model["name"], model["version"]) == ("breast-cancer", 1)
    assert model["spec"]["contract"]["columns"][0]["name"] == "radius"
