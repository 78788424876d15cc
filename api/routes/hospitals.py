"""Hospitals: adding them, reading them, and the identity each publishes itself."""

from __future__ import annotations

from typing import Annotated

from anyio import from_thread
from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from api.auth.guard import HospitalDep, may
from api.auth.passwords import new_secret, secret_digest
from api.auth.scopes import HOSPITALS_WRITE, TRAINING_READ
from api.auth.tokens import Principal
from api.errors import Problem
from api.schemas import HospitalCredential, HospitalView, Identity, NewHospital
from api.services import ServicesDep
from db.errors import Conflict
from db.models import Hospital
from db.queries import audit, credentials, hospitals
from db.session import transaction
from fl.invitation import HospitalId
from fl.names import pool_name

router = APIRouter(prefix="/hospitals", tags=["hospitals"])


@router.post("", status_code=201, summary="Add a hospital")
def add_hospital(
    body: NewHospital,
    response: Response,
    services: ServicesDep,
    caller: Annotated[Principal, may(HOSPITALS_WRITE)],
) -> HospitalCredential:
    """Adds a hospital with its work pool and deployment, and returns its client secret, once."""
    secret = new_secret()
    with transaction(services.engine) as session:
        hospitals.add_hospital(session, hospital_id=body.hospital_id, name=body.name)
        _refuse_shared_pool(session, body.hospital_id)
        credentials.add_client(
            session,
            client_id=body.hospital_id,
            secret_digest=secret_digest(secret),
            hospital_id=body.hospital_id,
        )
        # Before the commit: a hospital without a pool would be invited and never hear of it. A pool
        # without a hospital does no harm, and the next try finds it.
        from_thread.run(services.prefect.ensure_hospital_pool, body.hospital_id)
        audit.append_event(
            session,
            actor=caller.subject,
            action="hospital.added",
            subject=f"hospital:{body.hospital_id}",
            details={"name": body.name},
            now=services.now(),
        )
    response.headers["Cache-Control"] = "no-store"
    return HospitalCredential(
        hospital_id=body.hospital_id, client_id=body.hospital_id, client_secret=secret
    )


@router.get("", summary="List the hospitals")
def list_hospitals(
    services: ServicesDep, _: Annotated[Principal, may(TRAINING_READ)]
) -> list[HospitalView]:
    """All hospitals by id."""
    with transaction(services.engine) as session:
        return [_view(hospital) for hospital in hospitals.list_hospitals(session)]


@router.get("/{hospital_id}", summary="Read a hospital")
def read_hospital(
    hospital_id: HospitalId, services: ServicesDep, _: Annotated[Principal, may(TRAINING_READ)]
) -> HospitalView:
    """One hospital."""
    with transaction(services.engine) as session:
        return _view(hospitals.get_hospital(session, hospital_id))


@router.put("/{hospital_id}/identity", summary="Publish the hospital's own identity keys")
def publish_identity(
    hospital_id: HospitalId, body: Identity, services: ServicesDep, caller: HospitalDep
) -> HospitalView:
    """Publishes the keys once; repeating them is harmless, other keys are refused."""
    if caller.hospital_id != hospital_id:
        raise Problem(
            403,
            "another-hospital",
            "Another hospital",
            detail=f"{caller.hospital_id} cannot publish the keys of {hospital_id}",
        )
    with transaction(services.engine) as session:
        is_new = hospitals.get_hospital(session, hospital_id).signing_key is None
        hospital = hospitals.publish_identity(
            session,
            hospital_id=hospital_id,
            signing_key=body.signing_key,
            sealing_key=body.sealing_key,
        )
        if is_new:
            audit.append_event(
                session,
                actor=caller.subject,
                action="hospital.identity-published",
                subject=f"hospital:{hospital_id}",
                details=body.model_dump(mode="json"),
                now=services.now(),
            )
        return _view(hospital)


def _refuse_shared_pool(session: Session, hospital_id: str) -> None:
    """``charite`` and ``hospital-charite`` would work on one pool, and see each other's runs."""
    pool = pool_name(hospital_id)
    for other in hospitals.list_hospitals(session):
        if other.id != hospital_id and pool_name(other.id) == pool:
            raise Conflict("pool-taken", f"{other.id} works on the pool {pool}: choose another id")


def _view(hospital: Hospital) -> HospitalView:
    return HospitalView(
        hospital_id=hospital.id,
        name=hospital.name,
        state=hospital.state,
        signing_key=hospital.signing_key,
        sealing_key=hospital.sealing_key,
        created_at=hospital.created_at,
    )
