"""The exchange's rules: who may put or fetch which message of a round, and in which order.

    admit(session, round_id=round_id, hospital_id="hospital-1")
    with transaction(engine) as session:
        is_new = accept(session, message, now=now)

Bodies are taken as bytes: nothing here decodes what a hospital masked, sealed or signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from api.errors import FieldError, Problem, hospital_not_active
from api.schemas.exchange import Refusal, TrainingFigures
from db.blobs import BlobStore, IncomingBlob
from db.errors import Conflict, NotFound, RoundClosed
from db.models import Participation, ParticipationState, Round
from db.queries import audit, hospitals, messages, models, participations, rounds, trainings

FromHospital = Literal["enrolment", "upload", "echo", "reveal", "refusal"]
ToHospital = Literal["cohort", "survivors", "certificate"]

# First bytes of fl.wire's format. That module would bring NumPy into a process that needs none; a
# test holds the two together.
FRAME_MARKER: Final = b"FMED"
MAX_REFUSAL_BYTES: Final = 8 * 1024
_STATE_AFTER: Final[Mapping[FromHospital, ParticipationState]] = MappingProxyType(
    {
        "enrolment": "enrolled",
        "upload": "uploaded",
        "echo": "uploaded",  # it moves nobody on
        "reveal": "revealed",
        "refusal": "refused",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HospitalMessage:
    """A message that has arrived whole and is not kept yet; ``refusal`` is set when it is one."""

    round_id: UUID
    hospital_id: str
    subject: str
    kind: FromHospital
    body: IncomingBlob = field(repr=False)
    digest: str
    size_bytes: int
    refusal: Refusal | None


def read_message(
    *,
    round_id: UUID,
    hospital_id: str,
    subject: str,
    kind: FromHospital,
    body: IncomingBlob,
    announced_digest: str | None,
) -> HospitalMessage:
    """Checks the outside of a message: its digest, its marker, or a refusal's two fields.

    Raises:
        Problem: 422, it is not what it says.
    """
    digest = body.digest
    if announced_digest is not None and announced_digest.lower() != digest:
        raise _not_a_message(
            "X-Content-SHA256", "digest", f"the body arrived with the SHA-256 {digest}"
        )
    refusal = _read_refusal(body.first(MAX_REFUSAL_BYTES)) if kind == "refusal" else None
    if refusal is None and body.first(len(FRAME_MARKER)) != FRAME_MARKER:
        raise _not_a_message("body", "marker", f"a {kind} begins with {FRAME_MARKER.decode()}")
    return HospitalMessage(
        round_id=round_id,
        hospital_id=hospital_id,
        subject=subject,
        kind=kind,
        body=body,
        digest=digest,
        size_bytes=body.size_bytes,
        refusal=refusal,
    )


def admit(session: Session, *, round_id: UUID, hospital_id: str) -> None:
    """Lets a hospital pass that is active and invited to this round, while the round is open.

    Raises:
        NotFound: no such round, or the hospital is not invited: it cannot tell which.
        RoundClosed: the round has ended, with its reason.
        Problem: 403, the hospital is suspended.
    """
    require_active(session, hospital_id)
    try:
        participations.get_participation(session, round_id=round_id, hospital_id=hospital_id)
    except NotFound:
        raise NotFound("round", round_id) from None
    found = rounds.get_round(session, round_id)
    if found.state != "open":
        raise RoundClosed(round_id, state=found.state, reason=found.reason)


def require_active(session: Session, hospital_id: str) -> None:
    """Refuses a hospital that was suspended after it got its token.

    Raises:
        Problem: 403, the hospital is suspended, or has left.
    """
    state = hospitals.get_hospital(session, hospital_id).state
    if state != "active":
        raise hospital_not_active(hospital_id, state=state)


def accept(session: Session, message: HospitalMessage, *, now: datetime) -> bool:
    """Takes a message and moves the hospital to its next state; False when it was there before.

    Raises:
        Conflict: another message of this kind is there, or this kind does not follow now.
        RoundClosed: the round has ended meanwhile.
    """
    round_id, hospital_id = message.round_id, message.hospital_id
    admit(session, round_id=round_id, hospital_id=hospital_id)
    earlier = messages.find_message(
        session, round_id=round_id, hospital_id=hospital_id, kind=message.kind
    )
    if earlier is not None:
        return _repeated(earlier.digest, message)
    if message.kind == "echo":
        _require_uploaded(session, round_id=round_id, hospital_id=hospital_id)
    messages.post_message(
        session,
        round_id=round_id,
        hospital_id=hospital_id,
        kind=message.kind,
        digest=message.digest,
        size_bytes=message.size_bytes,
    )
    participations.set_participation(
        session,
        round_id=round_id,
        hospital_id=hospital_id,
        state=_STATE_AFTER[message.kind],
        reason_code=message.refusal.code if message.refusal else None,
        reason=message.refusal.reason if message.refusal else None,
        now=now,
    )
    # Last of what can be refused: a refused message leaves no blob, a committed one has its bytes.
    message.body.keep()
    if message.refusal is not None:
        audit.append_event(
            session,
            actor=message.subject,
            action="round.refused",
            subject=f"round:{round_id}",
            details=message.refusal.model_dump(mode="json"),
            now=now,
        )
    return True


def fetch(
    session: Session, blobs: BlobStore, *, round_id: UUID, hospital_id: str, kind: ToHospital
) -> bytes | None:
    """Returns the coordinator's message to a hospital, None while it is not there.

    Raises:
        NotFound: no such round, or the hospital is not invited.
        RoundClosed: the round has ended, with its reason.
    """
    admit(session, round_id=round_id, hospital_id=hospital_id)
    message = messages.find_message(session, round_id=round_id, hospital_id=hospital_id, kind=kind)
    return None if message is None else blobs.get(message.digest)


def require_weights_of_own_round(session: Session, *, hospital_id: str, digest: str) -> None:
    """Lets a hospital fetch the weights from which a round it is invited to starts.

    Raises:
        NotFound: no such weights, or they are not for this hospital: it cannot tell which.
    """
    invited = select(Participation).join(Round, Round.id == Participation.round_id)
    its_own = invited.where(
        Participation.hospital_id == hospital_id, Round.incoming_weights == digest
    )
    if not session.scalars(select(exists(its_own.subquery().select()))).one():
        raise NotFound("weights", digest)


def figures_of(session: Session, *, training_id: UUID, hospital_id: str) -> TrainingFigures:
    """Returns what a training has measured on all hospitals together: noised sums, no hospital's.

    Raises:
        NotFound: no such training, or the hospital was never invited to it: it cannot tell which.
    """
    if not participations.is_invited_to_training(
        session, training_id=training_id, hospital_id=hospital_id
    ):
        raise NotFound("training", training_id)
    training = trainings.get_training(session, training_id)
    model = models.get_model(session, id=training.model_id)
    closing = rounds.closing_evaluation(session, training_id)
    shared = {
        "training_id": training_id,
        "model": model.name,
        "version": model.version,
        "state": training.state,
    }
    if closing is None:
        return TrainingFigures.model_validate(shared)
    return TrainingFigures.model_validate(
        {
            **shared,
            "epsilon": closing.epsilon,
            "delta": closing.delta,
            "weights": closing.incoming_weights,
            "metrics": closing.metrics or {},
            "hospitals": participations.revealed_hospitals(session, closing.id),
            "closed_at": closing.closed_at,
        }
    )


def _require_uploaded(session: Session, *, round_id: UUID, hospital_id: str) -> None:
    participation = participations.get_participation(
        session, round_id=round_id, hospital_id=hospital_id
    )
    if participation.state != "uploaded":
        raise Conflict(
            "participation-order",
            f"{hospital_id} is {participation.state!r} in round {round_id}: "
            "an echo does not follow",
        )


def _repeated(earlier_digest: str, message: HospitalMessage) -> bool:
    if earlier_digest != message.digest:
        raise Conflict(
            "message-changed",
            f"{message.hospital_id} has sent another {message.kind} in round {message.round_id}; "
            "the first one counts",
        )
    return False


def _read_refusal(body: bytes) -> Refusal:
    try:
        refusal = Refusal.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise _not_a_message(place, first["type"], first["msg"]) from None
    # The text goes into logs, tables and terminals. A refusal that quotes a strange column name
    # must not be lost for it: the round would wait for the hospital in vain.
    printable = "".join(c if c.isprintable() else "?" for c in refusal.reason)
    return Refusal(code=refusal.code, reason=printable)


def _not_a_message(place: str, rule: str, detail: str) -> Problem:
    return Problem(
        422,
        "invalid-message",
        "The message is not valid",
        detail=detail,
        errors=[FieldError(place, rule, detail)],
    )
