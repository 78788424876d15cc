"""What changes a hospital's standing: joining, suspending, taking back, leaving, new credentials.

    with transaction(engine) as session:
        suspend(session, hospital_id="north", reason="…", now=now)

Each change notifies (`db.notify.STANDING`) when it is committed, so that every process acts on it
at once, and begins the credential's next generation, so that older tokens are refused for good.
A hospital that is kept out, or has gone, is lost to its open rounds in the same transaction.

The hospital is locked first, then its participations, then the audit record.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.errors import Conflict, JoinCodeRefused
from db.models import Client, Hospital, Participation, Round
from db.notify import STANDING, notify
from db.queries.hospitals import add_hospital, locked_hospital, replace_identity
from db.queries.join_codes import owner_of_code, redeem_code, void_codes
from db.queries.participations import set_participation

_OPEN = ("invited", "enrolled", "uploaded")


def invite(session: Session, *, hospital_id: str, name: str, again: bool) -> Hospital:
    """Adds a hospital that is invited to join, or returns one that may join again.

    A member that joins again keeps its state until it has: its old credential works until then.
    ``name`` is that of a new hospital; one that is known keeps its own.

    Raises:
        AlreadyExists: the id is taken, and nobody asked to invite that hospital again.
        NotFound: it is to be invited again and there is no such hospital.
        Conflict: the hospital is suspended.
    """
    if not again:
        return add_hospital(session, hospital_id=hospital_id, name=name, state="invited")
    hospital = locked_hospital(session, hospital_id)
    if hospital.state == "suspended":
        raise Conflict(
            "hospital-suspended", f"{hospital_id} is suspended: readmit it, or end its membership"
        )
    if hospital.state == "left":
        hospital.state = "invited"
    session.flush()
    return hospital


def join(
    session: Session,
    *,
    code_digest: str,
    signing_key: str,
    sealing_key: str,
    secret_digest: str,
    now: datetime,
) -> tuple[Hospital, bool]:
    """Makes a hospital a member by its code; returns it, and False when it had joined just so.

    The hospital repeats the call with the same keys when the answer was lost on its way.

    Raises:
        JoinCodeRefused: the code is unknown, used, replaced or expired, or its hospital is kept
            out; nobody is told which.
        Conflict: a key is another hospital's.
    """
    hospital = locked_hospital(session, owner_of_code(session, digest=code_digest))
    client = find_client(session, hospital.id)
    asked = (signing_key, sealing_key, secret_digest)
    if client is not None and hospital.state == "active":
        if (hospital.signing_key, hospital.sealing_key, client.secret_digest) == asked:
            return hospital, False
    if hospital.state not in ("invited", "active"):
        raise JoinCodeRefused
    redeem_code(session, digest=code_digest, now=now)
    for participation in open_participations(session, hospital.id):
        why = f"{hospital.id} has joined again, with other keys"
        _lose(session, participation, code="joined-again", reason=why, now=now)
    replace_identity(
        session, hospital_id=hospital.id, signing_key=signing_key, sealing_key=sealing_key
    )
    hospital.state = "active"
    replace_secret(session, hospital_id=hospital.id, secret_digest=secret_digest)
    return hospital, True


def suspend(session: Session, *, hospital_id: str, reason: str, now: datetime) -> bool:
    """Keeps a hospital out until it is taken back; False when it was kept out already.

    Raises:
        NotFound: no such hospital.
        Conflict: it has left.
    """
    hospital = locked_hospital(session, hospital_id)
    if hospital.state == "suspended":
        return False
    _refuse_if_left(hospital)
    hospital.state = "suspended"
    _shut_out(session, hospital, code="suspended", reason=reason, now=now)
    return True


def readmit(session: Session, *, hospital_id: str) -> bool:
    """Takes a suspended hospital back, with the keys and the credential it had; False if it is in.

    One that had not joined yet needs a new code.

    Raises:
        NotFound: no such hospital.
        Conflict: it has left.
    """
    hospital = locked_hospital(session, hospital_id)
    _refuse_if_left(hospital)
    if hospital.state != "suspended":
        return False
    joined = find_client(session, hospital_id) is not None
    hospital.state = "active" if joined else "invited"
    session.flush()
    _notify(session, hospital_id)
    return True


def end(session: Session, *, hospital_id: str, reason: str, now: datetime) -> bool:
    """Ends a membership: the credential is dead, the record stays; False when it had ended.

    Raises:
        NotFound: no such hospital.
    """
    hospital = locked_hospital(session, hospital_id)
    if hospital.state == "left":
        return False
    hospital.state = "left"
    _shut_out(session, hospital, code="left", reason=reason, now=now)
    client = find_client(session, hospital_id)
    if client is not None:
        client.secret_digest = hashlib.sha256(secrets.token_bytes()).hexdigest()  # nobody's
        session.flush()
    return True


def replace_secret(session: Session, *, hospital_id: str, secret_digest: str) -> Client:
    """Gives a hospital's client its next secret, or its first; ``secret_digest`` is SHA-256, hex.

    Repeating the present one changes nothing: the hospital could not know that it had arrived.

    Raises:
        NotFound: no such hospital.
    """
    locked_hospital(session, hospital_id)
    client = find_client(session, hospital_id)
    if client is None:
        client = session.scalars(
            insert(Client)
            .values(client_id=hospital_id, secret_digest=secret_digest, hospital_id=hospital_id)
            .returning(Client)
        ).one()
    elif client.secret_digest != secret_digest:
        client.secret_digest = secret_digest
        client.generation += 1
        session.flush()
    else:
        return client
    _notify(session, hospital_id)
    return client


def change_identity(
    session: Session, *, hospital_id: str, signing_key: str, sealing_key: str
) -> bool:
    """Replaces a member's identity keys; False when these are its keys already.

    Raises:
        NotFound: no such hospital.
        Conflict: a round is open for it, in which it is known by its old keys; or a key is another
            hospital's.
    """
    hospital = locked_hospital(session, hospital_id)
    if (hospital.signing_key, hospital.sealing_key) == (signing_key, sealing_key):
        return False
    if open_participations(session, hospital_id):
        raise Conflict(
            "round-open",
            f"{hospital_id} is in a round, which knows it by its present keys: try again when the "
            "round has ended",
        )
    replace_identity(
        session, hospital_id=hospital_id, signing_key=signing_key, sealing_key=sealing_key
    )
    _notify(session, hospital_id)
    return True


def find_client(session: Session, hospital_id: str) -> Client | None:
    """Returns a hospital's client as it is now, None before it has joined."""
    return session.scalars(
        select(Client)
        .where(Client.client_id == hospital_id, Client.hospital_id == hospital_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()


def generation_of(session: Session, hospital_id: str) -> int:
    """Returns the generation of a hospital's credential, 0 before it has joined."""
    client = find_client(session, hospital_id)
    return 0 if client is None else client.generation


def open_participations(session: Session, hospital_id: str) -> list[Participation]:
    """Returns the hospital's parts in open rounds that have not ended."""
    return list(
        session.scalars(
            select(Participation)
            .join(Round, Round.id == Participation.round_id)
            .where(
                Participation.hospital_id == hospital_id,
                Participation.state.in_(_OPEN),
                Round.state == "open",
            )
            .order_by(Participation.round_id)
        )
    )


def _shut_out(
    session: Session, hospital: Hospital, *, code: str, reason: str, now: datetime
) -> None:
    """Ends all that goes on with a hospital whose state says that nothing more may."""
    session.flush()
    void_codes(session, hospital_id=hospital.id)
    client = find_client(session, hospital.id)
    if client is not None:
        client.generation += 1
    for participation in open_participations(session, hospital.id):
        _lose(session, participation, code=code, reason=reason, now=now)
    session.flush()
    _notify(session, hospital.id)


def _lose(
    session: Session, participation: Participation, *, code: str, reason: str, now: datetime
) -> None:
    """Takes a hospital out of a round; its coordinator sees it once the notice wakes it."""
    try:
        set_participation(
            session,
            round_id=participation.round_id,
            hospital_id=participation.hospital_id,
            state="lost",
            reason_code=code,
            reason=reason,
            now=now,
        )
    except Conflict:
        return  # it has given its last answer, or refused, since it was looked up


def _refuse_if_left(hospital: Hospital) -> None:
    if hospital.state == "left":
        raise Conflict(
            "hospital-left", f"{hospital.id} has left: `fedmed hospital invite` asks it again"
        )


def _notify(session: Session, hospital_id: str) -> None:
    notify(session, round_id=None, hospital_id=hospital_id, kind=STANDING)
