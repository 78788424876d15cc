"""Tokens taken back (RFC 7009), and sign-ins that have to wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from db.models import FailedSignIns, RevokedToken
from db.queries import tokens
from db.session import transaction

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def revoke(api: Any, token: str, header: dict[str, str] | None = None, **form: str) -> Any:
    form = {"token": token, **form}
    return await api.client.post("/oauth/revoke", data=form, headers=header)


async def works(api: Any, token: str) -> bool:
    answer = await api.client.get("/models", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code in {200, 401, 403}
    return bool(answer.status_code != 401)


async def test_a_person_takes_an_own_token_back(api: Any) -> None:
    lost, kept = (api.token("training:read") for _ in range(2))
    assert await works(api, lost)
    answer = await revoke(api, lost, {"Authorization": f"Bearer {kept}"}, token_type_hint="x")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert not await works(api, lost)
    assert await works(api, kept)
    assert (await revoke(api, lost, {"Authorization": f"Bearer {kept}"})).status_code == 200
    assert (await revoke(api, kept, {"Authorization": f"Bearer {kept}"})).status_code == 200
    assert not await works(api, kept)


async def test_a_hospital_takes_its_tokens_back_with_its_secret(api: Any) -> None:
    added = await api.add_hospital("north")
    credential = {key: added[key] for key in ("client_id", "client_secret")}
    token = api.token(hospital="north")
    assert await works(api, token)
    for _ in range(2):
        assert (await revoke(api, token, **credential)).status_code == 200
        assert not await works(api, token)


async def test_what_is_no_token_of_ours_is_left_at_that(api: Any) -> None:
    header = api.may("training:read")
    for text in ("abc", "a.b.c", api.token("training:read")[:-1], "x" * 5000):
        assert (await revoke(api, text, header)).status_code == 200
    with transaction(api.engine) as session:
        assert session.scalars(select(func.count(RevokedToken.jti))).one() == 0


async def test_nobody_takes_the_token_of_another_back(api: Any) -> None:
    added = await api.add_hospital("north")
    credential = {key: added[key] for key in ("client_id", "client_secret")}
    theirs = api.token("training:read", user="ada")
    attempts = [(api.may("users:write"), {}), ({}, credential)]
    for header, form in attempts:
        answer = await revoke(api, theirs, header, **form)
        assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")
    assert (await revoke(api, theirs)).json()["error"] == "invalid_client"
    assert (await revoke(api, theirs, {"Authorization": "Bearer x"})).status_code == 401
    assert await works(api, theirs)
    empty = await revoke(api, "", api.may("training:read"))
    assert (empty.status_code, empty.json()["error"]) == (400, "invalid_request")


def test_revocations_of_expired_tokens_are_purged(engine: Any) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    ids = ["11111111-2222-3333-4444-555555555555", "21111111-2222-3333-4444-555555555555"]
    for n, jti in enumerate(ids):
        moment = now + timedelta(hours=n)
        with transaction(engine) as session:
            tokens.revoke(session, jti=jti, expires_at=moment + timedelta(minutes=30), now=moment)
    with transaction(engine) as session:
        assert [str(jti) for jti in session.scalars(select(RevokedToken.jti))] == [ids[1]]


async def fail(
    api: Any, username: str, peer: str = "203.0.113.7", *, forwarded: str | None = None
) -> httpx.Response:
    """Signs in with a wrong password from an address."""
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    transport = httpx.ASGITransport(api.app, client=(peer, 7))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        form = {"grant_type": "password", "username": username, "password": "a guess"}
        return await client.post("/oauth/token", data=form, headers=headers)


@pytest.mark.parametrize("username", ["operator", "nobody"])
async def test_known_and_unknown_names_wait_alike(api: Any, username: str) -> None:
    answers = [await fail(api, username) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [400] * 5 + [429]
    assert len({answer.text for answer in answers[:5]}) == 1
    last = answers[-1]
    assert last.headers["retry-after"] == "1"
    assert set(last.json()) == {"error", "error_description"}
    assert last.json()["error"] == "temporarily_unavailable"
    # Another address of the same name does not wait.
    assert (await fail(api, username, "198.51.100.1")).status_code == 400


async def test_an_address_that_is_claimed_is_not_believed(api: Any) -> None:
    for n in range(5):
        await fail(api, f"name{n}", forwarded=f"198.51.100.{n}")
    assert (await fail(api, "name9", forwarded="198.51.100.9")).status_code == 429


async def test_behind_a_trusted_proxy_each_client_waits_alone(api: Any) -> None:
    trusting = api.settings.model_copy(update={"trusted_proxies": (ip_network("203.0.113.0/24"),)})
    object.__setattr__(api.services, "settings", trusting)
    for n in range(5):
        await fail(api, f"name{n}", forwarded="198.51.100.1")
    assert (await fail(api, "name9", forwarded="198.51.100.1")).status_code == 429
    assert (await fail(api, "name9", forwarded="198.51.100.2")).status_code == 400


async def test_a_client_waits_too_and_a_success_clears_it(api: Any) -> None:
    added = await api.add_hospital("north")
    form = {"grant_type": "client_credentials", "client_id": "north"}
    good = {**form, "client_secret": added["client_secret"]}
    for _ in range(4):
        await api.client.post("/oauth/token", data={**form, "client_secret": "old"})
    assert (await api.client.post("/oauth/token", data=good)).status_code == 200
    with transaction(api.engine) as session:
        assert session.scalars(select(func.count(FailedSignIns.key))).one() == 0
    for _ in range(5):
        await api.client.post("/oauth/token", data={**form, "client_secret": "old"})
    assert (await api.client.post("/oauth/token", data=good)).status_code == 429
