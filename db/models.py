"""The coordinator's tables: metadata only, never a row of a patient or an update of a hospital.

States are text with a CHECK, times are UTC, keys are UUIDs (a hospital's is its name), hashes are
SHA-256 in hex. Weights, updates and strategy states lie in the blob store under their hash.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args
from uuid import UUID, uuid4

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

HospitalState = Literal["invited", "active", "suspended", "left"]
UserState = Literal["active", "suspended"]
Role = Literal["operator", "scientist", "compliance"]
TrainingState = Literal["pending", "running", "completed", "failed"]
RoundState = Literal["pending", "open", "completed", "failed"]
RoundKind = Literal["training", "evaluation"]
ParticipationState = Literal["invited", "enrolled", "uploaded", "revealed", "refused", "lost"]
CoordinatorMessage = Literal["dispatch", "cohort", "survivors", "certificate"]
HospitalMessage = Literal["enrolment", "upload", "echo", "reveal", "refusal"]
MessageKind = Literal[CoordinatorMessage, HospitalMessage]
Outcome = Literal["completed", "failed"]

JsonObject = dict[str, Any]

DEFAULT_PURPOSE = "research"
"""What a training is for when nobody has said."""

_Digest = Annotated[str, mapped_column(String(64))]
_HospitalId = Annotated[str, mapped_column(String(63))]
_Json = Annotated[JsonObject, mapped_column(JSONB(none_as_null=True))]
_Time = Annotated[datetime, mapped_column(DateTime(timezone=True))]
_Created = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
_Id = Annotated[UUID, mapped_column(primary_key=True, default=uuid4)]


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


def one_of(column: str, states: object) -> CheckConstraint:
    """A CHECK that the column holds one of a Literal's values."""
    listed = ", ".join(f"'{state}'" for state in get_args(states))
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def hexadecimal(column: str) -> CheckConstraint:
    """A CHECK that the column holds 32 bytes in lower-case hex."""
    return CheckConstraint(f"{column} ~ '^[0-9a-f]{{64}}$'", name=column)


class Base(DeclarativeBase):
    """Names every constraint the same way, so that a migration can name it too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it once)
        str: Text(),
        HospitalState: Text(),
        Role: Text(),
        UserState: Text(),
        TrainingState: Text(),
        RoundState: Text(),
        RoundKind: Text(),
        ParticipationState: Text(),
        MessageKind: Text(),
    }


class Hospital(Base):
    """A data-owning institution; its keys are null until it has joined.

    ``invited`` has a join code, ``active`` has joined, ``suspended`` is kept out by an operator,
    ``left`` has gone for good; its record stays.
    """

    __tablename__ = "hospitals"
    __table_args__ = (
        one_of("state", HospitalState),
        CheckConstraint("id ~ '^[a-z0-9][a-z0-9-]{0,62}$'", name="id"),
        hexadecimal("signing_key"),
        hexadecimal("sealing_key"),
        CheckConstraint("(signing_key IS NULL) = (sealing_key IS NULL)", name="both_keys"),
    )

    id: Mapped[_HospitalId] = mapped_column(primary_key=True)
    name: Mapped[str]
    state: Mapped[HospitalState] = mapped_column(server_default="active")
    signing_key: Mapped[_Digest | None] = mapped_column(unique=True)
    sealing_key: Mapped[_Digest | None] = mapped_column(unique=True)
    created_at: Mapped[_Created]


class User(Base):
    """A person who signs in with a password; only its argon2id hash is kept.

    A token names the ``generation`` it was issued in; the next one refuses all of the last.
    """

    __tablename__ = "users"
    __table_args__ = (
        one_of("role", Role),
        one_of("state", UserState),
        CheckConstraint("generation >= 1", name="generation"),
        UniqueConstraint("username"),
    )

    id: Mapped[_Id]
    username: Mapped[str]
    password_hash: Mapped[str]
    role: Mapped[Role]
    state: Mapped[UserState] = mapped_column(server_default="active")
    generation: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[_Created]


class Client(Base):
    """OAuth client credentials of a hospital; only the SHA-256 of the random secret is kept.

    A token names the ``generation`` it was issued in; a new secret begins the next one.
    """

    __tablename__ = "clients"
    __table_args__ = (
        hexadecimal("secret_digest"),
        CheckConstraint("generation >= 1", name="generation"),
        UniqueConstraint("client_id"),
    )

    id: Mapped[_Id]
    client_id: Mapped[str]
    secret_digest: Mapped[_Digest]
    hospital_id: Mapped[_HospitalId] = mapped_column(ForeignKey("hospitals.id"), index=True)
    generation: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[_Created]


class JoinCode(Base):
    """A one-time code with which a hospital joins; only its SHA-256 is kept."""

    __tablename__ = "join_codes"
    __table_args__ = (
        hexadecimal("digest"),
        CheckConstraint("expires_at > created_at", name="expires_at"),
    )

    digest: Mapped[_Digest] = mapped_column(primary_key=True)
    hospital_id: Mapped[_HospitalId] = mapped_column(ForeignKey("hospitals.id"), index=True)
    created_by: Mapped[str]
    created_at: Mapped[_Time]
    expires_at: Mapped[_Time]
    used_at: Mapped[_Time | None]


class RevokedToken(Base):
    """An access token that is refused before it expires, by its ``jti``."""

    __tablename__ = "revoked_tokens"

    jti: Mapped[UUID] = mapped_column(primary_key=True)
    expires_at: Mapped[_Time] = mapped_column(index=True)


class FailedSignIns(Base):
    """Failures in a row of one account or one address, for throttling."""

    __tablename__ = "failed_sign_ins"
    __table_args__ = (CheckConstraint("failures >= 1", name="failures"),)

    key: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    last_at: Mapped[_Time] = mapped_column(index=True)


class Model(Base):
    """A named, versioned architecture with its data contract and hyperparameters.

    ``public_test`` is the hash of a public test set that its trainings are scored on.
    """

    __tablename__ = "models"
    __table_args__ = (
        UniqueConstraint("name", "version"),
        hexadecimal("public_test"),
        CheckConstraint("version >= 1", name="version"),
    )

    id: Mapped[_Id]
    name: Mapped[str]
    version: Mapped[int]
    spec: Mapped[_Json]
    public_test: Mapped[_Digest | None]
    created_at: Mapped[_Created]


class Training(Base):
    """A series of rounds on one model under one privacy plan.

    ``epsilon`` and ``delta`` are the price of the whole plan; ``weights`` and ``strategy_state``
    are the hashes of what the last completed round left.
    """

    __tablename__ = "trainings"
    __table_args__ = (
        one_of("state", TrainingState),
        hexadecimal("weights"),
        hexadecimal("strategy_state"),
        CheckConstraint("purpose ~ '^[a-z0-9][a-z0-9-]{0,62}$'", name="purpose"),
        CheckConstraint("rounds >= 1", name="rounds"),
        CheckConstraint("epsilon >= 0", name="epsilon"),
        CheckConstraint("delta > 0 AND delta < 1", name="delta"),
        # A sum of two shows each of them the other.
        CheckConstraint("least_cohort >= 3", name="least_cohort"),
        CheckConstraint("round_deadline_s > 0", name="round_deadline_s"),
    )

    id: Mapped[_Id]
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"), index=True)
    purpose: Mapped[str] = mapped_column(server_default=DEFAULT_PURPOSE)
    rounds: Mapped[int]
    strategy: Mapped[_Json]
    plan: Mapped[_Json]
    epsilon: Mapped[float]
    delta: Mapped[float]
    least_cohort: Mapped[int]
    round_deadline_s: Mapped[float]
    state: Mapped[TrainingState] = mapped_column(server_default="pending")
    reason: Mapped[str | None]
    weights: Mapped[_Digest | None]
    strategy_state: Mapped[_Digest | None]
    mlflow_run_id: Mapped[str | None]
    model_version: Mapped[str | None]
    flow_run_id: Mapped[str | None]
    requested_by: Mapped[str]
    created_at: Mapped[_Created]
    closed_at: Mapped[_Time | None]


class Round(Base):
    """One round of a training; ``epsilon`` is what the training has spent when it ends."""

    __tablename__ = "rounds"
    __table_args__ = (
        one_of("kind", RoundKind),
        one_of("state", RoundState),
        hexadecimal("incoming_weights"),
        hexadecimal("outgoing_weights"),
        hexadecimal("strategy_state"),
        CheckConstraint("number >= 1", name="number"),
        UniqueConstraint("training_id", "number"),
        # One open round a training: the lock orders the openers, this holds without it.
        Index(
            "uq_rounds_one_open",
            "training_id",
            unique=True,
            postgresql_where=text("state = 'open'"),
        ),
    )

    id: Mapped[_Id]
    training_id: Mapped[UUID] = mapped_column(ForeignKey("trainings.id"))
    number: Mapped[int]
    kind: Mapped[RoundKind] = mapped_column(server_default="training")
    state: Mapped[RoundState] = mapped_column(server_default="pending")
    reason: Mapped[str | None]
    incoming_weights: Mapped[_Digest | None]
    outgoing_weights: Mapped[_Digest | None]
    strategy_state: Mapped[_Digest | None]
    metrics: Mapped[_Json | None]
    epsilon: Mapped[float | None]
    delta: Mapped[float | None]
    flow_run_id: Mapped[str | None]
    created_at: Mapped[_Created]
    opened_at: Mapped[_Time | None]
    closed_at: Mapped[_Time | None]


class Participation(Base):
    """A hospital in a round; ``index`` is its place in the secure sum, from 1 without gaps."""

    __tablename__ = "participations"
    __table_args__ = (
        one_of("state", ParticipationState),
        CheckConstraint("index >= 1", name="index"),
        UniqueConstraint("round_id", "index"),
    )

    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    hospital_id: Mapped[_HospitalId] = mapped_column(
        ForeignKey("hospitals.id"), primary_key=True, index=True
    )
    index: Mapped[int]
    state: Mapped[ParticipationState] = mapped_column(server_default="invited")
    reason_code: Mapped[str | None]
    reason: Mapped[str | None]
    flow_run_id: Mapped[str | None]
    invited_at: Mapped[_Time]
    enrolled_at: Mapped[_Time | None]
    uploaded_at: Mapped[_Time | None]
    revealed_at: Mapped[_Time | None]
    ended_at: Mapped[_Time | None]


class Message(Base):
    """A message on the exchange: who, which kind, the hash of its bytes in the blob store."""

    __tablename__ = "messages"
    __table_args__ = (
        one_of("kind", MessageKind),
        hexadecimal("digest"),
        CheckConstraint("size_bytes >= 0", name="size_bytes"),
        UniqueConstraint("round_id", "hospital_id", "kind"),
        # Only an invited hospital has messages.
        ForeignKeyConstraint(
            ["round_id", "hospital_id"],
            ["participations.round_id", "participations.hospital_id"],
        ),
    )

    id: Mapped[_Id]
    round_id: Mapped[UUID]
    hospital_id: Mapped[_HospitalId]
    kind: Mapped[MessageKind]
    digest: Mapped[_Digest]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[_Created]


class AuditEvent(Base):
    """One entry of the append-only, hash-chained record; triggers refuse any change of it.

    ``details`` is JSON, not JSONB: the hash is over its text, and JSONB rewrites numbers.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        hexadecimal("previous"),
        hexadecimal("hash"),
        CheckConstraint("seq >= 1", name="seq"),
    )

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[_Time]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str] = mapped_column(index=True)
    details: Mapped[JsonObject] = mapped_column(JSON)
    previous: Mapped[_Digest]
    hash: Mapped[_Digest]
