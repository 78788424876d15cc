"""Hospitals as the operator sees them: invited, listed, suspended, taken back, ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from api.auth.guard import may
from api.auth.scopes import HOSPITALS_WRITE, TRAINING_READ
from api.auth.tokens import HOSPITAL_PREFIX, Principal
from api.errors import FieldError, Problem
from api.schemas.hospitals import HospitalInvited, HospitalView, NewHospital, WhyBody
from api.services import Services, ServicesDep
from db.errors import Conflict
from db.models import Hospital
from db.queries import audit, hospitals, memberships
from db.queries.join_codes import issue_code
from db.session import transaction
from fl.invitation import HospitalId
from fl.joining import code_digest, hospital_id_of, new_join_code, parse_join_code
from fl.names import pool_name

router = APIRouter(prefix="/hospitals", tags=["hospitals"])

Operator = Annotated[Principal, may(HOSPITALS_WRITE)]


@router.post("", status_code=201, summary="Invite a hospital to join")
def invite_hospital(
    body: NewHospital, response: Response, services: ServicesDep, caller: Operator
) -> HospitalInvited:
    """Returns a one-time join code, once; an earlier code of this hospital is dead from now on."""
    hospital_id = body.hospital_id or _derived_id(body.name)
    code, now = new_join_code(), services.now()
    with changing(services, hospital_id) as session:
        hospital = memberships.invite(
            session, hospital_id=hospital_id, name=body.name, again=body.again
        )
        _refuse_shared_pool(session, hospital_id)
        issued = issue_code(
            session,
            hospital_id=hospital_id,
            digest=code_digest(parse_join_code(code)),
            created_by=caller.subject,
            valid_for=timedelta(days=body.valid_days),
            now=now,
        )
        details = {"name": hospital.name, "again": body.again}
        expires = {"code_expires_at": issued.expires_at.isoformat()}
        record(session, services, caller.subject, "invited", hospital_id, details | expires)
        invited = HospitalInvited(
            hospital_id=hospital_id,
            name=hospital.name,
            join_code=code,
            expires_at=issued.expires_at,
            command=f"fedmed hospital join {services.settings.api_url.rstrip('/')} {code}",
        )
    response.headers["Cache-Control"] = "no-store"
    return invited


@router.get("", summary="List the hospitals")
def list_hospitals(
    services: ServicesDep, _: Annotated[Principal, may(TRAINING_READ)]
) -> list[HospitalView]:
    """All hospitals by id."""
    with transaction(services.engine) as session:
        heard = hospitals.last_heard(session)
        return [_view(hospital, heard) for hospital in hospitals.list_hospitals(session)]


@router.get("/{hospital_id}", summary="Read a hospital")
def read_hospital(
    hospital_id: HospitalId, services: ServicesDep, _: Annotated[Principal, may(TRAINING_READ)]
) -> HospitalView:
    """One hospital."""
    with transaction(services.engine) as session:
        return view(session, hospitals.get_hospital(session, hospital_id))


@router.post("/{hospital_id}/suspend", summary="Keep a hospital out until it is taken back")
def suspend_hospital(
    hospital_id: HospitalId, body: WhyBody, services: ServicesDep, caller: Operator
) -> HospitalView:
    """At once: its tokens are refused, and its open rounds go on without it."""
    with changing(services, hospital_id) as session:
        reason = f"suspended by the operator: {body.reason}"
        if memberships.suspend(session, hospital_id=hospital_id, reason=reason, now=services.now()):
            details = {"reason": body.reason}
            record(session, services, caller.subject, "suspended", hospital_id, details)
        return view(session, hospitals.get_hospital(session, hospital_id))


@router.post("/{hospital_id}/readmit", summary="Take a suspended hospital back")
def readmit_hospital(
    hospital_id: HospitalId, services: ServicesDep, caller: Operator
) -> HospitalView:
    """With the keys and the credential it had; the next round invites it."""
    with changing(services, hospital_id) as session:
        if memberships.readmit(session, hospital_id=hospital_id):
            record(session, services, caller.subject, "readmitted", hospital_id, {})
        return view(session, hospitals.get_hospital(session, hospital_id))


@router.post("/{hospital_id}/end", summary="End a hospital's membership")
def end_membership(
    hospital_id: HospitalId, body: WhyBody, services: ServicesDep, caller: Operator
) -> HospitalView:
    """For good: its credential is dead. Its record stays, and it may be invited again."""
    with changing(services, hospital_id) as session:
        reason = f"its membership was ended by the operator: {body.reason}"
        if memberships.end(session, hospital_id=hospital_id, reason=reason, now=services.now()):
            details = {"reason": body.reason}
            record(session, services, caller.subject, "ended", hospital_id, details)
        return view(session, hospitals.get_hospital(session, hospital_id))


@contextmanager
def changing(services: Services, hospital_id: str) -> Iterator[Session]:
    """A transaction that changes a hospital's standing.

    This process acts on it before it answers; the others hear of it a moment later.
    """
    with transaction(services.engine) as session:
        yield session
    services.standings.forget_subject(f"{HOSPITAL_PREFIX}{hospital_id}")


def record(
    session: Session,
    services: Services,
    actor: str,
    what: str,
    hospital_id: str,
    details: Mapping[str, Any],
) -> None:
    """Appends ``hospital.<what>`` to the audit record; last of what a transaction locks."""
    audit.append_event(
        session,
        actor=actor,
        action=f"hospital.{what}",
        subject=f"{HOSPITAL_PREFIX}{hospital_id}",
        details=dict(details),
        now=services.now(),
    )


def view(session: Session, hospital: Hospital) -> HospitalView:
    """Returns a hospital as it is shown."""
    return _view(hospital, hospitals.last_heard(session, hospital.id))


def _view(hospital: Hospital, heard: Mapping[str, datetime]) -> HospitalView:
    return HospitalView(
        hospital_id=hospital.id,
        name=hospital.name,
        state=hospital.state,
        signing_key=hospital.signing_key,
        sealing_key=hospital.sealing_key,
        created_at=hospital.created_at,
        last_heard_at=heard.get(hospital.id),
    )


def _derived_id(name: str) -> str:
    derived = hospital_id_of(name)
    if not derived:
        detail = "no id follows from this name: give one, of lower-case letters, digits and hyphens"
        field = FieldError("hospital_id", "missing", detail)
        raise Problem(
            422, "invalid-request", "The request is not valid", detail=detail, errors=[field]
        )
    return derived


def _refuse_shared_pool(session: Session, hospital_id: str) -> None:
    """``charite`` and ``hospital-charite`` would work on one pool, and see each other's runs."""
    pool = pool_name(hospital_id)
    for other in hospitals.list_hospitals(session):
        if other.id != hospital_id and pool_name(other.id) == pool:
            raise Conflict("pool-taken", f"{other.id} works on the pool {pool}: choose another id")
