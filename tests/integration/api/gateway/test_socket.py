"""The events websocket: what a worker says about itself arrives, and nothing else."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import anyio.to_thread
import pytest
import tenacity
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api.auth.tokens import Tokens
from db.notify import STANDING, notify
from db.queries import memberships
from db.session import transaction

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

AUTH = json.dumps({"type": "auth", "token": None})


def event(pool_id: str, name: str = "prefect.worker.started", **changes: Any) -> dict[str, Any]:
    found = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": name,
        "resource": {
            "prefect.resource.id": "prefect.worker.hospital.north-host",
            "prefect.resource.name": "north-host",
            "prefect.version": "3.8.8",
            "prefect.worker-type": "hospital",
        },
        "related": [related("work-pool", pool_id)],
        "payload": {"secret": "sesame"},
        "follows": None,
    }
    return {**found, **changes}


def related(kind: str, object_id: str, **labels: str) -> dict[str, str]:
    return {
        "prefect.resource.id": f"prefect.{kind}.{object_id}",
        "prefect.resource.role": kind,
        "prefect.resource.name": "a name",
        **labels,
    }


async def pool_id(hospital: Any) -> str:
    found: str = (await hospital.server.get(f"/work_pools/{hospital.pool}")).json()["id"]
    return found


async def arrived(hospital: Any, event_id: str) -> dict[str, Any] | None:
    """The event as the server keeps it; it writes events a moment after it took them."""
    query = {"filter": {"id": {"id": [event_id]}}}

    async def ask() -> dict[str, Any] | None:
        found = (await hospital.server.post("/events/filter", json=query)).json()["events"]
        return found[0] if found else None

    looking = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(lambda found: found is None),
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(15),
        retry_error_callback=lambda _: None,
    )
    found: dict[str, Any] | None = await looking(ask)
    return found


def token_of_north(tokens: Any) -> str:
    text: str = tokens.issue(
        subject="hospital:north",
        scopes=frozenset({"exchange"}),
        generation=1,
        hospital_id="north",
        client_id="north",
    )
    return text


async def closed(socket: Any) -> tuple[int, str]:
    """The code and the reason with which the server closes a socket."""
    with pytest.raises(ConnectionClosed) as end:
        await asyncio.wait_for(socket.recv(), 10)
    assert end.value.rcvd is not None
    return end.value.rcvd.code, end.value.rcvd.reason


async def test_a_worker_s_events_arrive_rebuilt(gateway: Any, north: Any) -> None:
    run = related("flow-run", north.run_id, **{"prefect.infrastructure.identifier": "71", "x": "y"})
    sent = event(
        await pool_id(north),
        "prefect.worker.executed-flow-run",
        related=[
            related("work-pool", await pool_id(north)),
            related("flow", north.deployment["flow_id"]),
            related("deployment", north.deployment["id"]),
            {"prefect.resource.id": "prefect.tag.hospital", "prefect.resource.role": "tag"},
            run,
        ],
    )
    async with gateway.socket() as socket:
        await socket.send(AUTH)
        assert json.loads(await socket.recv()) == {"type": "auth_success"}
        await (await socket.ping())
        await socket.send(json.dumps(sent))
    kept = await arrived(north, sent["id"])
    assert kept is not None
    assert kept["event"] == "prefect.worker.executed-flow-run"
    assert kept["payload"] == {}
    assert kept["resource"]["prefect.resource.name"] == "north-host"
    names = {
        item["prefect.resource.role"]: item.get("prefect.resource.name") for item in kept["related"]
    }
    assert names == {
        "work-pool": north.pool,
        "flow": "hospital-round",
        "deployment": "north",
        "tag": None,
        "flow-run": "a name",
    }
    assert kept["related"][-1]["prefect.infrastructure.identifier"] == "71"
    assert "x" not in kept["related"][-1]


async def test_a_foreign_event_closes_the_socket_and_goes_nowhere(
    gateway: Any, north: Any, south: Any, caplog: pytest.LogCaptureFixture
) -> None:
    own, other = await pool_id(north), await pool_id(south)
    worker = event(own)["resource"]
    forged = [
        event(own, "prefect.flow-run.Completed"),
        event(own, "prefect.flow-run.Crashed", resource=related("flow-run", north.run_id)),
        event(own, "prefect.worker.Started\n"),
        event(other),
        event(own, related=[related("flow-run", south.run_id)]),
        event(own, related=[related("flow-run", str(uuid4()))]),
        event(own, related=[related("deployment", south.deployment["id"])]),
        event(own, related=[related("flow", str(uuid4()))]),
        event(own, related=[related("automation", str(uuid4()))]),
        event(own, related=[{**related("flow-run", own), "prefect.resource.role": "work-pool"}]),
        event(
            own, resource={**worker, "prefect.resource.id": "prefect.worker.hospital.south-host"}
        ),
        event(own, resource={**worker, "prefect.resource.id": "prefect.worker.process.north-host"}),
        event(own, resource={**worker, "prefect.resource.id": "prefect.worker.hospital.northern"}),
        {**event(own), "related": "none"},
        {"type": "auth"},
    ]
    for sent in forged:
        async with gateway.socket() as socket:
            await socket.send(AUTH)
            await socket.recv()
            await socket.send(json.dumps(sent))
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008, sent
    # What came after them arrives, so what has not arrived by then never does.
    last = event(own)
    async with gateway.socket() as socket:
        await socket.send(AUTH)
        await socket.recv()
        await socket.send(json.dumps(last))
    assert await arrived(north, last["id"]) is not None
    query = {"filter": {"id": {"id": [sent["id"] for sent in forged if "id" in sent]}}}
    assert (await north.server.post("/events/filter", json=query)).json()["events"] == []
    assert "sesame" not in caplog.text
    assert "hospital=north socket=/events/in rule=own code=1008" in caplog.text


async def test_with_prefect_away_the_client_is_told_to_come_again(
    gateway: Any, north: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = event(await pool_id(north))
    async with gateway.socket() as socket:
        await socket.send(AUTH)
        await socket.recv()
        monkeypatch.setattr(gateway.services.gateway.upstream, "_url", "http://127.0.0.1:1/api")
        await socket.send(json.dumps(sent))
        with pytest.raises(ConnectionClosed, match="1011"):
            await socket.recv()
    assert (await north.client.get(f"/flow_runs/{north.run_id}")).status_code == 503


async def test_a_large_frame_closes_the_socket(gateway: Any, north: Any) -> None:
    async with gateway.socket() as socket:
        await socket.send(AUTH)
        await socket.recv()
        await socket.send("x" * (64 * 1024 + 1))
        with pytest.raises(ConnectionClosed, match="1009"):
            await socket.recv()


async def test_the_first_frame_is_the_handshake(gateway: Any, north: Any) -> None:
    async with gateway.socket() as socket:
        await socket.send(json.dumps(event(await pool_id(north))))
        with pytest.raises(ConnectionClosed, match="1008"):
            await socket.recv()


async def test_who_calls_is_known_before_the_socket_is_accepted(gateway: Any) -> None:
    for token in ("", "nonsense"):
        with pytest.raises(InvalidStatus) as denied:
            await gateway.socket(token=token).__aenter__()
        assert denied.value.response.status_code == 401
        assert denied.value.response.headers["content-type"] == "application/problem+json"
    for options in ({"path": "/events/out"}, {"path": "/logs/out"}, {"subprotocols": None}):
        with pytest.raises(InvalidStatus) as denied:
            await gateway.socket(**options).__aenter__()
        assert denied.value.response.status_code == 403


async def test_another_standing_closes_the_socket(gateway: Any, north: Any) -> None:
    async with gateway.socket() as socket, gateway.socket(token=gateway.south.token) as other:
        for opened in (socket, other):
            await opened.send(AUTH)
            await opened.recv()
        with transaction(gateway.services.engine) as session:
            notify(session, round_id=None, hospital_id="north", kind=STANDING)
        with pytest.raises(ConnectionClosed, match="1008"):
            await socket.recv()
        await (await other.ping())
    sockets = gateway.services.gateway.sockets
    await tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(bool),
        wait=tenacity.wait_fixed(0.01),
        stop=tenacity.stop_after_delay(10),
    )(anyio.to_thread.run_sync, sockets.copy)


async def test_a_socket_ends_with_the_token_it_was_opened_with(gateway: Any) -> None:
    services = gateway.services
    tokens = Tokens(
        services.keys,
        issuer=services.settings.token_issuer,
        audience=services.settings.audience,
        lifetime_s=2,
    )
    async with gateway.socket(token=token_of_north(tokens)) as socket, gateway.socket() as other:
        for opened in (socket, other):
            await opened.send(AUTH)
            await opened.recv()
        assert await closed(socket) == (1008, "token-expired")
        await (await other.ping())


async def test_a_revoked_token_closes_its_sockets_and_no_other(gateway: Any, north: Any) -> None:
    revoked = token_of_north(gateway.services.tokens)
    async with gateway.socket(token=revoked) as socket, gateway.socket() as other:
        for opened in (socket, other):
            await opened.send(AUTH)
            await opened.recv()
        form = {"token": revoked, "client_id": "north", "client_secret": north.secret}
        address = gateway.url.removesuffix("/prefect/api") + "/oauth/revoke"
        assert (await north.client.post(address, data=form)).status_code == 200
        assert await closed(socket) == (1008, "standing")
        await (await other.ping())


async def test_what_changes_before_the_socket_watches_is_not_missed(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = gateway.services
    subscribe = services.hub.subscribe

    def suspended_first(topics: Any) -> Any:
        with transaction(services.engine) as session:
            memberships.suspend(session, hospital_id="north", reason="x", now=services.now())
        services.standings.forget_subject("hospital:north")
        return subscribe(topics)

    monkeypatch.setattr(services.hub, "subscribe", suspended_first)
    async with gateway.socket() as socket:
        code, rule = await closed(socket)
    assert (code, rule) == (1008, "unauthorized")  # its credential is of the next generation


async def test_a_hospital_opens_so_many_sockets_and_no_more(gateway: Any, north: Any) -> None:
    sockets = [await gateway.socket().__aenter__() for _ in range(17)]
    try:
        with pytest.raises(ConnectionClosed, match="1013"):
            await sockets[-1].recv()
        await (await sockets[0].ping())
    finally:
        await asyncio.gather(*(socket.close() for socket in sockets))
