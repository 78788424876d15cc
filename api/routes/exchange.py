"""The exchange: the mailbox through which hospitals and coordinator pass a round's messages.

Hospitals only call out. What they wait for they ask with ``wait_s``: the answer comes as soon as it
is there, and 204 when it did not come in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Annotated, Final, TypeVar
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import exchange
from api.auth.guard import HospitalCaller, HospitalDep
from api.bodies import read_into
from api.exchange import FromHospital, ToHospital
from api.hub import Topic, closed, posted, standing_of
from api.schemas.exchange import Received, TrainingFigures
from api.schemas.hospitals import PublishedIdentity
from api.schemas.models import OfferedModel
from api.services import Services, ServicesDep
from api.settings import ApiSettings
from db.queries import hospitals, models
from db.session import transaction
from fl.invitation import Digest
from fl.spec import ModelSpec

router = APIRouter(prefix="/exchange", tags=["exchange"])

T = TypeVar("T")
WaitS = Annotated[
    float,
    Query(ge=0, allow_inf_nan=False, description="Seconds to wait; the server holds 30 at most."),
]
OCTETS: Final = "application/octet-stream"
_NOTHING_YET: Final = {"description": "Nothing came in time"}


@router.get("/roster", summary="List the hospitals that rounds invite, with their public keys")
def get_roster(services: ServicesDep, caller: HospitalDep) -> list[PublishedIdentity]:
    """By id; so that a hospital's people can compare fingerprints before the first round."""
    with transaction(services.engine) as session:
        exchange.require_active(session, caller.hospital_id)
        return roster_of(session)


@router.get("/models", summary="List the registered models with their data contracts")
def get_models(services: ServicesDep, caller: HospitalDep) -> list[OfferedModel]:
    """All versions; so that a hospital can hold its table to them before the first round."""
    with transaction(services.engine) as session:
        exchange.require_active(session, caller.hospital_id)
        return [
            OfferedModel(
                name=model.name,
                version=model.version,
                spec=ModelSpec.model_validate(model.spec),
            )
            for model in models.list_models(session)
        ]


@router.get(
    "/trainings/{training_id}/figures",
    summary="Read what a training's closing evaluation has measured on all hospitals together",
)
def get_figures(training_id: UUID, services: ServicesDep, caller: HospitalDep) -> TrainingFigures:
    """Noised sums; only of trainings to which the hospital was invited."""
    with transaction(services.engine) as session:
        exchange.require_active(session, caller.hospital_id)
        return exchange.figures_of(session, training_id=training_id, hospital_id=caller.hospital_id)


@router.put(
    "/rounds/{round_id}/{kind}",
    status_code=201,
    summary="Post one of the hospital's messages",
    response_model=Received,
    responses={200: {"model": Received, "description": "The same message was there before"}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_message(
    request: Request,
    round_id: UUID,
    kind: FromHospital,
    services: ServicesDep,
    caller: HospitalDep,
    x_content_sha256: Annotated[str | None, Header()] = None,
) -> Response:
    """Takes a message once; the same again is harmless, another is refused."""
    # Before the body is read: who is not invited does not get to send 256 MiB.
    await run_in_threadpool(_admit, services, caller, round_id)
    with services.blobs.incoming() as body:
        await read_into(body, request, limit=largest_body(services.settings, kind))
        message = await run_in_threadpool(
            exchange.read_message,
            round_id=round_id,
            hospital_id=caller.hospital_id,
            subject=caller.subject,
            kind=kind,
            body=body,
            announced_digest=x_content_sha256,
        )
        is_new = await run_in_threadpool(_accept, services, message)
    received = Received(digest=message.digest, size_bytes=message.size_bytes)
    return JSONResponse(received.model_dump(mode="json"), status_code=201 if is_new else 200)


@router.get(
    "/rounds/{round_id}/{kind}",
    summary="Wait for one of the coordinator's messages",
    response_class=Response,
    responses={200: {"content": {OCTETS: {}}}, 204: _NOTHING_YET},
)
async def get_message(
    round_id: UUID,
    kind: ToHospital,
    services: ServicesDep,
    caller: HospitalDep,
    wait_s: WaitS = 0.0,
) -> Response:
    """The message to this hospital; 410 with the reason once the round has ended."""

    def look(session: Session) -> bytes | None:
        return exchange.fetch(
            session,
            services.blobs,
            round_id=round_id,
            hospital_id=caller.hospital_id,
            kind=kind,
        )

    own = caller.hospital_id
    topics = [posted(round_id, own, kind), closed(round_id), standing_of(own)]
    body = await _look_until(services, look, topics=topics, wait_s=wait_s)
    if body is None:
        return Response(status_code=204)
    return Response(body, media_type=OCTETS)


@router.get(
    "/weights/{digest}",
    summary="Fetch the weights a round starts from",
    response_class=Response,
    responses={200: {"content": {OCTETS: {}}}},
)
def get_weights(digest: Digest, services: ServicesDep, caller: HospitalDep) -> Response:
    """Weights by their SHA-256; only those of rounds to which the hospital is invited.

    They are sent as they are read: the hospital holds them to the SHA-256.
    """
    with transaction(services.engine) as session:
        exchange.require_active(session, caller.hospital_id)
        exchange.require_weights_of_own_round(
            session, hospital_id=caller.hospital_id, digest=digest
        )
    size, pieces = services.blobs.pieces(digest)
    return StreamingResponse(pieces, media_type=OCTETS, headers={"Content-Length": str(size)})


def roster_of(session: Session) -> list[PublishedIdentity]:
    """Returns the hospitals that rounds invite, by id, with the keys they have published."""
    return [
        PublishedIdentity(
            hospital_id=hospital.id,
            signing_key=hospital.signing_key or "",
            sealing_key=hospital.sealing_key or "",
        )
        for hospital in hospitals.invitable_hospitals(session)
    ]


def largest_body(settings: ApiSettings, kind: FromHospital) -> int:
    """Returns the most bytes that a message of a kind may have."""
    match kind:
        case "upload":
            return settings.max_upload_bytes
        case "refusal":
            return exchange.MAX_REFUSAL_BYTES
        case _:
            return settings.max_message_bytes


def _admit(services: Services, caller: HospitalCaller, round_id: UUID) -> None:
    with transaction(services.engine) as session:
        exchange.admit(session, round_id=round_id, hospital_id=caller.hospital_id)


def _accept(services: Services, message: exchange.HospitalMessage) -> bool:
    with transaction(services.engine) as session:
        return exchange.accept(session, message, now=services.now())


async def _look_until(
    services: Services,
    look: Callable[[Session], T | None],
    *,
    topics: Iterable[Topic],
    wait_s: float,
) -> T | None:
    """Looks into the database now and after every wake-up, until something is there or time is up.

    No connection and no thread is held while it waits.
    """

    def look_once() -> T | None:
        with transaction(services.engine) as session:
            return look(session)

    deadline = asyncio.get_running_loop().time() + services.settings.wait_s(wait_s)
    # Subscribed before the first look: what is posted in between wakes the wait.
    with services.hub.subscribe(topics) as subscription:
        while (found := await run_in_threadpool(look_once)) is None:
            if not await subscription.wait(deadline):
                return None
    return found
