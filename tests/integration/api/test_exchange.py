"""The exchange: messages in order, long polls, and no hospital in another's rounds."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.exchange import FRAME_MARKER
from db.queries import hospitals
from db.queries.participations import set_participation
from db.session import transaction
from fl import wire

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

COHORT = ("north", "south", "west")
FRAME = FRAME_MARKER + b"\x01 the rest stays unread"


def test_the_marker_is_that_of_the_wire_format() -> None:
    assert FRAME_MARKER == wire.MARKER


@pytest.fixture
async def round_id(api: Any) -> UUID:
    opened: UUID = await api.open_round(*COHORT)
    return opened


async def put(
    api: Any,
    round_id: UUID,
    kind: str,
    body: Any = FRAME,
    *,
    hospital: str = "north",
    **headers: str,
) -> Any:
    return await api.client.put(
        f"/exchange/rounds/{round_id}/{kind}",
        content=body,
        headers={**api.may(hospital=hospital), **headers},
    )


async def fetch(
    api: Any, round_id: UUID, kind: str, *, hospital: str = "north", wait_s: float = 0
) -> Any:
    return await api.client.get(
        f"/exchange/rounds/{round_id}/{kind}",
        params={"wait_s": wait_s},
        headers=api.may(hospital=hospital),
    )


async def states(api: Any, round_id: UUID) -> dict[str, Any]:
    status = await api.get(f"/training/status/{round_id}", "training:read")
    return {h["hospital_id"]: h["state"] for h in status["round"]["hospitals"]}


async def test_takes_a_round_s_messages_in_order(api: Any, round_id: UUID) -> None:
    for kind, state in (("enrolment", "enrolled"), ("upload", "uploaded"), ("reveal", "revealed")):
        body = FRAME + kind.encode()
        answer = await put(api, round_id, kind, body)
        assert answer.status_code == 201, answer.text
        digest = hashlib.sha256(body).hexdigest()
        assert answer.json() == {"digest": digest, "size_bytes": len(body)}
        assert api.blobs.get(digest) == body
        assert await states(api, round_id) == {
            "north": state,
            "south": "invited",
            "west": "invited",
        }
        again = await put(api, round_id, kind, body)
        assert (again.status_code, again.json()) == (200, answer.json())
    # Repeating an early message is harmless even now.
    assert (await put(api, round_id, "enrolment", FRAME + b"enrolment")).status_code == 200


async def test_another_message_of_the_same_kind_is_refused(api: Any, round_id: UUID) -> None:
    await put(api, round_id, "enrolment")
    before, blobs = api.contents(), api.stored_blobs()
    answer = await put(api, round_id, "enrolment", FRAME + b"!")
    assert answer.status_code == 409
    assert answer.json()["errors"][0]["rule"] == "message-changed"
    assert (api.contents(), api.stored_blobs()) == (before, blobs)


@pytest.mark.parametrize("kind", ["upload", "reveal"])
async def test_out_of_order(api: Any, round_id: UUID, kind: str) -> None:
    before, blobs = api.contents(), api.stored_blobs()
    answer = await put(api, round_id, kind)
    assert answer.status_code == 409
    assert answer.json()["errors"][0]["rule"] == "participation-order"
    assert (api.contents(), api.stored_blobs()) == (before, blobs)


async def test_messages_of_the_wrong_shape(api: Any, round_id: UUID) -> None:
    before, blobs = api.contents(), api.stored_blobs()
    for kind, body, status, field in [
        ("enrolment", b"", 422, "body"),
        ("enrolment", b"pickle", 422, "body"),
        ("enrolment", FRAME + b"x" * 10_000, 413, None),
        ("upload", FRAME + b"x" * 100_000, 413, None),
        ("refusal", b"x" * 9_000, 413, None),
        ("cohort", FRAME, 422, "kind"),
        ("dispatch", FRAME, 422, "kind"),
        ("refusal", FRAME, 422, "body"),
        ("refusal", b"{}", 422, "code"),
        ("refusal", b'{"code": "X", "reason": "y"}', 422, "code"),
        ("refusal", b'{"code": "x", "reason": ""}', 422, "reason"),
        ("refusal", b'{"code": "x", "reason": "%s"}' % (b"y" * 501), 422, "reason"),
        ("refusal", b'{"code": "x", "reason": "y", "rows": [1]}', 422, "rows"),
    ]:
        answer = await put(api, round_id, kind, body)
        assert answer.status_code == status, (kind, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        if field is not None:
            assert answer.json()["errors"][0]["field"] == field, (kind, body)
    assert (api.contents(), api.stored_blobs()) == (before, blobs)


async def test_the_digest_must_match_when_it_is_given(api: Any, round_id: UUID) -> None:
    before, blobs = api.contents(), api.stored_blobs()
    digest = hashlib.sha256(FRAME).hexdigest()
    wrong = await put(api, round_id, "enrolment", **{"X-Content-SHA256": "0" * 64})
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["field"] == "X-Content-SHA256"
    assert (api.contents(), api.stored_blobs()) == (before, blobs)
    right = await put(api, round_id, "enrolment", **{"X-Content-SHA256": digest.upper()})
    assert right.status_code == 201


async def test_bodies_are_counted_while_they_arrive(api: Any, round_id: UUID) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield FRAME
        while True:
            yield b"x" * 50_000

    assert (await put(api, round_id, "enrolment", endless())).status_code == 413


async def test_a_refusal_is_recorded_with_its_reason(api: Any, round_id: UUID) -> None:
    reason = "column 'age\u202e' has\ttext in 3 rows"
    body = b'{"code": "contract", "reason": "column \'age\\u202e\' has\\ttext in 3 rows"}'
    assert (await put(api, round_id, "refusal", body)).status_code == 201
    status = await api.get(f"/training/status/{round_id}", "training:read")
    north = status["round"]["hospitals"][0]
    assert (north["state"], north["reason_code"]) == ("refused", "contract")
    assert north["reason"] == reason.replace("\u202e", "?").replace("\t", "?")
    (event,) = await api.get("/audit/events?action=round.refused", "audit:read")
    assert event["actor"] == "hospital:north"
    assert event["details"]["code"] == "contract"
    assert (await put(api, round_id, "refusal", body)).status_code == 200
    assert (await put(api, round_id, "enrolment")).status_code == 409


async def test_a_lost_hospital_is_out(api: Any, round_id: UUID) -> None:
    with transaction(api.engine) as session:
        set_participation(
            session,
            round_id=round_id,
            hospital_id="north",
            state="lost",
            now=api.services.now(),
        )
    assert (await put(api, round_id, "enrolment")).status_code == 409


async def test_a_closed_round_says_why(api: Any, round_id: UUID) -> None:
    api.close(round_id, state="failed", reason="south was silent")
    before, blobs = api.contents(), api.stored_blobs()
    for answer in (
        await put(api, round_id, "enrolment"),
        await fetch(api, round_id, "cohort"),
        await fetch(api, round_id, "survivors", wait_s=20),
    ):
        assert answer.status_code == 410
        assert answer.json()["type"] == "/problems/round-closed"
        assert "south was silent" in answer.json()["detail"]
    assert (api.contents(), api.stored_blobs()) == (before, blobs)


async def test_fetches_its_own_message_only(api: Any, round_id: UUID) -> None:
    assert (await fetch(api, round_id, "cohort")).status_code == 204
    api.post(round_id, "north", "cohort", b"for north")
    answer = await fetch(api, round_id, "cohort")
    assert (answer.status_code, answer.content) == (200, b"for north")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert (await fetch(api, round_id, "cohort", hospital="south")).status_code == 204
    assert (await fetch(api, round_id, "survivors")).status_code == 204
    assert (await fetch(api, round_id, "upload")).status_code == 422


async def test_a_hospital_that_is_not_invited_sees_nothing(api: Any, round_id: UUID) -> None:
    await api.add_hospital("east")  # after the round was opened
    api.post(round_id, "north", "cohort", b"for north")
    weights = hashlib.sha256(b"the weights").hexdigest()
    before, blobs = api.contents(), api.stored_blobs()
    refused = [
        await put(api, round_id, "enrolment", hospital="east"),
        await put(api, round_id, "refusal", b'{"code": "x", "reason": "y"}', hospital="east"),
        await fetch(api, round_id, "cohort", hospital="east"),
        await fetch(api, round_id, "cohort", hospital="east", wait_s=20),
    ]
    unknown = await fetch(api, uuid4(), "cohort", hospital="east")
    for answer in refused:
        assert answer.status_code == 404
        # The same as for a round that does not exist, but for its id.
        assert answer.json()["type"] == unknown.json()["type"] == "/problems/unknown-round"
        assert set(answer.json()) == set(unknown.json())
    assert (await get_weights(api, weights, hospital="east")).status_code == 404
    assert (api.contents(), api.stored_blobs()) == (before, blobs)


async def get_weights(api: Any, digest: str, *, hospital: str = "north") -> Any:
    return await api.client.get(f"/exchange/weights/{digest}", headers=api.may(hospital=hospital))


async def test_weights_are_for_the_invited(api: Any, round_id: UUID) -> None:
    digest = hashlib.sha256(b"the weights").hexdigest()
    answer = await get_weights(api, digest)
    assert (answer.status_code, answer.content) == (200, b"the weights")
    secret = api.blobs.put(FRAME + b"another hospital's upload")
    assert (await get_weights(api, secret)).status_code == 404
    assert (await get_weights(api, "0" * 64)).status_code == 404
    assert (await get_weights(api, "../" + "0" * 61)).status_code == 404
    assert (await get_weights(api, "0" * 63)).status_code == 422


async def test_weights_that_were_deleted_are_a_404(api: Any, round_id: UUID) -> None:
    digest = hashlib.sha256(b"the weights").hexdigest()
    api.blobs.delete(digest)
    assert (await get_weights(api, digest)).json()["type"] == "/problems/unknown-blob"


async def test_a_suspended_hospital_is_out_at_once(api: Any, round_id: UUID) -> None:
    with transaction(api.engine) as session:
        hospitals.set_hospital_state(session, hospital_id="north", state="suspended")
    digest = hashlib.sha256(b"the weights").hexdigest()
    for answer in (
        await put(api, round_id, "enrolment"),
        await fetch(api, round_id, "cohort"),
        await get_weights(api, digest),
    ):
        assert answer.status_code == 403
        assert answer.json()["type"] == "/problems/hospital-suspended"
