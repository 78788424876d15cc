"""What the API takes and returns, beyond the values of ``fl`` and ``privacy``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints
from pydantic_core import PydanticCustomError

from api.auth.passwords import LEAST_PASSWORD, LONGEST_PASSWORD
from db.models import Role, UserState
from fl.invitation import Digest, HospitalId, Key
from fl.joining import JoinCodeText
from fl.spec import ModelName, ModelSpec, Purpose
from privacy.plan import PrivacyPlan

# PostgreSQL's text holds no zero character; the others would break a line of a log or a table.
Printable = r"^[^\x00-\x1f\x7f]*$"
Version = Annotated[int, Field(ge=1, le=2**31 - 1)]


def without_zero_characters(spec: ModelSpec) -> ModelSpec:
    """Refuses a specification that PostgreSQL cannot store."""
    if _holds_zero(spec.model_dump(mode="json")):
        raise PydanticCustomError("zero_character", "a text holds a zero character")
    return spec


def _holds_zero(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_holds_zero(part) for part in value.values())
        case list():
            return any(_holds_zero(part) for part in value)
        case _:
            return False


StorableModelSpec = Annotated[ModelSpec, AfterValidator(without_zero_characters)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _View(BaseModel):
    # "model_…" names are plain words here.
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class TokenResponse(_View):
    """RFC 6749, section 5.1."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - not a secret
    expires_in: int
    scope: str


class NewUser(_Body):
    """A person to add."""

    username: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    role: Role


class RoleChange(_Body):
    """Another role for a person."""

    role: Role


class PasswordChange(_Body):
    """A person's own password: the one that counts now, and the next."""

    old: Annotated[SecretStr, Field(max_length=LONGEST_PASSWORD)]
    new: Annotated[SecretStr, Field(min_length=LEAST_PASSWORD, max_length=LONGEST_PASSWORD)]


class UserView(_View):
    """A person who may sign in, or is suspended."""

    username: str
    role: Role
    state: UserState
    created_at: datetime


class OneTimePassword(_View):
    """A generated password; it is shown this once."""

    username: str
    role: Role
    password: str


Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=Printable)]


class NewHospital(_Body):
    """A hospital to invite; its id follows from its name unless one is given.

    ``again`` asks one that is known: it has lost its keys or its credential, or has left.
    """

    hospital_id: HospitalId | None = None
    name: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=Printable)]
    valid_days: Annotated[int, Field(ge=1, le=90)] = 7
    again: bool = False


class HospitalInvited(_View):
    """A hospital that may join; the code is shown this once, ``command`` is what it runs."""

    hospital_id: str
    name: str
    join_code: str
    expires_at: datetime
    command: str


class Identity(_Body):
    """A hospital's public identity keys, 32 bytes each in hex: Ed25519 and X25519."""

    signing_key: Key
    sealing_key: Key


class JoinRequest(Identity):
    """What a hospital shows to join; its private keys and its secret stay with it.

    ``proof`` is the signing key's Ed25519 signature over `fl.joining.join_statement`, hex.
    """

    code: JoinCodeText
    client_secret_sha256: Digest
    proof: Signature


class IdentityReplacement(Identity):
    """New identity keys: signed by the old signing key, and by the new one to show it is held.

    Both sign `fl.joining.replacement_statement`, Ed25519, hex.
    """

    signature: Signature
    proof: Signature


class NewCredential(_Body):
    """The SHA-256, hex, of a client secret that the hospital has made."""

    client_secret_sha256: Digest


class WhyBody(_Body):
    """Why an operator does something; it is in the audit record and in the rounds it ends."""

    reason: Reason = "the operator gave no reason"


class PublishedIdentity(_View):
    """A hospital and the public keys it has published, hex."""

    hospital_id: str
    signing_key: str
    sealing_key: str


class Joined(_View):
    """A hospital that is a member: its client and the hospitals whose keys it should compare."""

    hospital_id: str
    client_id: str
    name: str
    roster: list[PublishedIdentity]


class OfferedModel(_View):
    """A registered model, for hospitals to hold their table to its data contract."""

    name: ModelName
    version: int
    spec: ModelSpec


class HospitalView(_View):
    """A hospital; its keys are null until it has joined.

    ``last_heard_at`` is when its last message of a round arrived.
    """

    hospital_id: str
    name: str
    state: str
    signing_key: str | None
    sealing_key: str | None
    created_at: datetime
    last_heard_at: datetime | None


class ModelView(_View):
    """A version of a model."""

    model_id: UUID
    name: ModelName
    version: int
    spec: ModelSpec
    created_at: datetime


class HospitalProgress(_View):
    """A hospital in a round; ``seconds`` run from its invitation to its last message."""

    hospital_id: str
    state: str
    reason_code: str | None
    reason: str | None
    seconds: float | None


class RoundView(_View):
    """A round; ``metrics`` describe the weights it began with, ``epsilon`` is spent by its end."""

    round_id: UUID
    number: int
    kind: str
    state: str
    reason: str | None
    opened_at: datetime | None
    closed_at: datetime | None
    seconds: float | None
    metrics: dict[str, Any]
    epsilon: float | None
    delta: float | None
    flow_run_id: str | None
    hospitals: list[HospitalProgress]


class TrainingView(_View):
    """A training.

    ``spec_version`` is the version of the registered specification, ``model_version`` that of the
    trained model in MLflow. ``epsilon`` is the price of the whole plan.
    """

    training_id: UUID
    state: str
    reason: str | None
    model: ModelName
    model_id: UUID
    spec_version: int
    purpose: Purpose
    planned_rounds: int
    strategy: dict[str, Any]
    plan: PrivacyPlan
    epsilon: float
    delta: float
    least_cohort: int
    round_deadline_s: float
    requested_by: str
    created_at: datetime
    closed_at: datetime | None
    flow_run_id: str | None
    mlflow_run_id: str | None
    mlflow_url: str
    model_version: str | None


class _Progress(TrainingView):
    completed_rounds: int
    epsilon_spent: float


class TrainingDetail(_Progress):
    """A training with all its rounds."""

    rounds: list[RoundView]


class TrainingStatus(_Progress):
    """A training with one of its rounds: the one asked for, or the latest."""

    round: RoundView


class TrainingStarted(_View):
    """A training that was accepted; its flow run is scheduled."""

    training_id: UUID
    round_id: UUID
    plan: PrivacyPlan
    epsilon: float
    delta: float
    status_url: str


class ModelMetrics(_View):
    """The metrics of all trainings of a model, the newest training first."""

    model: ModelView
    trainings: list[TrainingDetail]


class AuditEventView(_View):
    """One entry of the audit record; each carries the hash of the one before."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any]
    previous: str
    hash: str


class Refusal(_Body):
    """Why a hospital takes no part in a round; names rules and counts, never data."""

    code: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9._-]{0,62}$")]
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class Received(_View):
    """A message that the exchange holds."""

    digest: Digest
    size_bytes: int


class Work(_View):
    """A round to which a hospital was dispatched."""

    round_id: UUID


class Health(_View):
    """The API serves and its database answers."""

    status: Literal["ok"] = "ok"
