"""What a hospital does itself: it joins, replaces its keys and its secret, and leaves."""

from __future__ import annotations

from anyio import from_thread
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from api.auth.addresses import peer_of
from api.auth.guard import HospitalCaller, HospitalDep
from api.auth.throttle import address, throttled
from api.auth.tokens import HOSPITAL_PREFIX
from api.errors import FieldError, Problem
from api.exchange import require_active
from api.routes.exchange import roster_of
from api.routes.hospitals import changing, record, view
from api.schemas.hospitals import (
    HospitalView,
    Identity,
    IdentityReplacement,
    Joined,
    JoinRequest,
    NewCredential,
)
from api.services import ServicesDep
from db.errors import JoinCodeRefused
from db.models import Hospital
from db.queries import hospitals, memberships
from db.session import transaction
from fl.invitation import HospitalId
from fl.joining import code_digest, join_statement, replacement_statement

router = APIRouter(prefix="/hospitals", tags=["hospitals"])


@router.post("/join", summary="Join with a one-time code")
def join(body: JoinRequest, request: Request, response: Response, services: ServicesDep) -> Joined:
    """Makes the hospital that was invited a member, with the keys it has made itself.

    Needs no token. Repeating the very same request is harmless, for an answer may be lost.
    """
    digest = code_digest(body.code)
    statement = join_statement(
        code_digest=digest,
        signing_key=body.signing_key,
        sealing_key=body.sealing_key,
        secret_digest=body.client_secret_sha256,
    )
    _verify(body.signing_key, body.proof, statement, field="proof")
    tries = [address(peer_of(request, services.settings.trusted_proxies))]
    with (
        throttled(services.engine, tries, now=services.now, failure=JoinCodeRefused),
        transaction(services.engine) as session,
    ):
        hospital, is_new = memberships.join(
            session,
            code_digest=digest,
            signing_key=body.signing_key,
            sealing_key=body.sealing_key,
            secret_digest=body.client_secret_sha256,
            now=services.now(),
        )
        subject = f"{HOSPITAL_PREFIX}{hospital.id}"
        if is_new:
            # Before the commit: a hospital without a pool would be invited and never hear of it. A
            # pool without a hospital does no harm, and the next try finds it.
            from_thread.run(services.prefect.ensure_hospital_pool, hospital.id)
            keys = {"signing_key": body.signing_key, "sealing_key": body.sealing_key}
            record(session, services, subject, "joined", hospital.id, keys)
        joined = Joined(
            hospital_id=hospital.id,
            client_id=hospital.id,
            name=hospital.name,
            roster=roster_of(session),
        )
    services.standings.forget_subject(subject)
    response.headers["Cache-Control"] = "no-store"
    return joined


@router.put("/{hospital_id}/identity", summary="Publish the hospital's own identity keys")
def publish_identity(
    hospital_id: HospitalId, body: Identity, services: ServicesDep, caller: HospitalDep
) -> HospitalView:
    """Publishes the keys once; repeating them is harmless, other keys are refused.

    Joining has published them. A hospital repeats them at its start, so that it ends there when
    others are shown keys that are not its own: none of its rounds would succeed.
    """
    with transaction(services.engine) as session:
        is_new = _own(session, hospital_id, caller).signing_key is None
        hospital = hospitals.publish_identity(
            session,
            hospital_id=hospital_id,
            signing_key=body.signing_key,
            sealing_key=body.sealing_key,
        )
        if is_new:
            keys = body.model_dump(mode="json")
            record(session, services, caller.subject, "identity-published", hospital_id, keys)
        return view(session, hospital)


@router.post("/{hospital_id}/identity", summary="Replace the hospital's own identity keys")
def replace_identity(
    hospital_id: HospitalId, body: IdentityReplacement, services: ServicesDep, caller: HospitalDep
) -> HospitalView:
    """Signed by the old key; the other hospitals have to accept the new keys. Never in a round."""
    with changing(services, hospital_id) as session:
        hospital = _own(session, hospital_id, caller)
        old = hospital.signing_key or ""
        if (hospital.signing_key, hospital.sealing_key) == (body.signing_key, body.sealing_key):
            return view(session, hospital)  # the answer was lost
        statement = replacement_statement(
            hospital_id=hospital_id,
            old_signing_key=old,
            signing_key=body.signing_key,
            sealing_key=body.sealing_key,
        )
        _verify(old, body.signature, statement, field="signature")
        _verify(body.signing_key, body.proof, statement, field="proof")
        if memberships.change_identity(
            session,
            hospital_id=hospital_id,
            signing_key=body.signing_key,
            sealing_key=body.sealing_key,
        ):
            details = body.model_dump(mode="json") | {"old_signing_key": old}
            record(session, services, caller.subject, "identity-replaced", hospital_id, details)
        return view(session, hospital)


@router.put("/{hospital_id}/credential", summary="Replace the hospital's own client secret")
def replace_credential(
    hospital_id: HospitalId, body: NewCredential, services: ServicesDep, caller: HospitalDep
) -> HospitalView:
    """At once: the old secret and all tokens that were issued for it are refused."""
    with changing(services, hospital_id) as session:
        hospital = _own(session, hospital_id, caller)
        before = memberships.generation_of(session, hospital_id)
        client = memberships.replace_secret(
            session, hospital_id=hospital_id, secret_digest=body.client_secret_sha256
        )
        if client.generation != before:
            details = {"generation": client.generation}
            record(session, services, caller.subject, "credential-replaced", hospital_id, details)
        return view(session, hospital)


@router.post("/{hospital_id}/leave", summary="Leave the consortium")
def leave(hospital_id: HospitalId, services: ServicesDep, caller: HospitalDep) -> HospitalView:
    """At once: the credential is dead and open rounds go on without it. The record stays."""
    with changing(services, hospital_id) as session:
        _own(session, hospital_id, caller)
        memberships.end(
            session,
            hospital_id=hospital_id,
            reason=f"{hospital_id} has left the consortium",
            now=services.now(),
        )
        record(session, services, caller.subject, "left", hospital_id, {})
        return view(session, hospitals.get_hospital(session, hospital_id))


def _own(session: Session, hospital_id: str, caller: HospitalCaller) -> Hospital:
    """Returns the hospital if it is the caller, and active; it is locked.

    Raises:
        Problem: 403, it is another hospital, or suspended, or has left.
    """
    if caller.hospital_id != hospital_id:
        raise Problem(
            403,
            "another-hospital",
            "Another hospital",
            detail=f"{caller.hospital_id} cannot act for {hospital_id}",
        )
    hospital = hospitals.locked_hospital(session, hospital_id)
    require_active(session, hospital_id)
    return hospital


def _verify(signing_key: str, signature: str, statement: bytes, *, field: str) -> None:
    """Returns only if the signature is the key's.

    Raises:
        Problem: 422, it is not.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signing_key))
        key.verify(bytes.fromhex(signature), statement)
    except (InvalidSignature, ValueError):
        detail = "the signature does not verify: it is over other values, or of another key"
        raise Problem(
            422,
            "invalid-request",
            "The request is not valid",
            detail=f"see {field}",
            errors=[FieldError(field, "signature", detail)],
        ) from None
