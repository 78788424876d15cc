"""Opening a round: who is invited, and with what they start."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from flwr.app import RecordDict
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import TypeAdapter
from sqlalchemy.orm import Session

from db.errors import TooFewHospitals
from db.models import Round, RoundKind, Training
from db.queries import hospitals, models, participations, rounds, trainings
from db.session import transaction
from fl.course import Course
from fl.invitation import RosterEntry, RoundInvitation
from fl.records import decode_record
from fl.rounds import RoundState
from fl.spec import ModelSpec
from fl.strategy_spec import StrategySpec
from fl.weights import decode_weights
from privacy.plan import PrivacyPlan
from tasks.coordinator import Coordinator
from tasks.errors import RoundFailed

_STRATEGY: TypeAdapter[StrategySpec] = TypeAdapter(StrategySpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRound:
    """A round that has begun.

    Attributes:
        invitation: what every invited hospital is told.
        course: the training's stages and strategy.
        state: the weights and the strategy's state with which the round starts.
        mlflow_run_id: the training's MLflow run.
        least_cohort: fewest hospitals that a sum may be of.
    """

    invitation: RoundInvitation
    course: Course
    state: RoundState
    mlflow_run_id: str
    least_cohort: int

    @property
    def round_id(self) -> UUID:
        """Identity of the round."""
        return self.invitation.round_id

    @property
    def hospital_ids(self) -> tuple[str, ...]:
        """The invited hospitals, in the order of their index."""
        return tuple(entry.hospital_id for entry in self.invitation.roster)

    def hospital_at(self, index: int) -> str:
        """Returns the hospital at an index of the secure sum, from 1."""
        return self.hospital_ids[index - 1]


@task(name="open_round", cache_policy=NO_CACHE, persist_result=False)
def open_round(
    coordinator: Coordinator, training_id: UUID, *, kind: RoundKind, flow_run_id: str | None
) -> OpenedRound:
    """Takes the training's lock, writes the round, invites the active hospitals.

    Raises:
        RoundFailed: fewer hospitals than the training's least cohort; the refusal is recorded.
    """
    with transaction(coordinator.engine) as session:
        training = trainings.get_training(session, training_id)
        if training.weights is None or training.mlflow_run_id is None:
            raise RoundFailed(f"training {training_id} has not been prepared: it has no weights")
        try:
            opened = rounds.open_round(
                session,
                training_id=training_id,
                kind=kind,
                incoming_weights=training.weights,
                flow_run_id=flow_run_id,
                now=coordinator.now(),
            )
        except TooFewHospitals as error:
            refused = error  # leaving the block commits the refusal that open_round recorded
        else:
            spec = ModelSpec.model_validate(models.get_model(session, id=training.model_id).spec)
            # Within the transaction: a round whose start cannot be read is not left open.
            charged = rounds.charged_rounds(session, training_id)
            roster = _roster(session, opened.id)
            return _opened(coordinator, training, opened, spec, roster, charged=charged)
    raise RoundFailed(str(refused))


def _roster(session: Session, round_id: UUID) -> tuple[RosterEntry, ...]:
    """Returns the invited hospitals with their published keys, by index."""
    entries = []
    for participation in participations.participations(session, round_id):
        hospital = hospitals.get_hospital(session, participation.hospital_id)
        entries.append(
            RosterEntry(
                hospital_id=hospital.id,
                index=participation.index,
                signing_key=hospital.signing_key or "",
                sealing_key=hospital.sealing_key or "",
            )
        )
    return tuple(sorted(entries, key=lambda entry: entry.index))


def _opened(
    coordinator: Coordinator,
    training: Training,
    opened: Round,
    spec: ModelSpec,
    roster: tuple[RosterEntry, ...],
    *,
    charged: int,
) -> OpenedRound:
    """Loads the round's starting point and asks the course what the hospitals are told."""
    strategy_spec = _STRATEGY.validate_python(training.strategy)
    incoming = opened.incoming_weights or ""
    state = RoundState(
        number=opened.number,
        weights=decode_weights(coordinator.blobs.get(incoming)),
        strategy_state=(
            decode_record(coordinator.blobs.get(training.strategy_state))
            if training.strategy_state
            else RecordDict()
        ),
    )
    plan = PrivacyPlan.model_validate(training.plan)
    course = Course(spec, plan, strategy_spec)
    config = {}
    if opened.kind == "training":
        config = course.configure(state, hospitals=len(roster)).train_config
    invitation = RoundInvitation(
        round_id=opened.id,
        training_id=training.id,
        number=opened.number,
        kind=opened.kind,
        purpose=training.purpose,
        model=spec,
        weights=incoming,
        plan=plan,
        train_config=config,
        evaluate=opened.kind == "evaluation" or plan.evaluates_after(charged),
        roster=roster,
        deadline_s=training.round_deadline_s,
    )
    return OpenedRound(
        invitation=invitation,
        course=course,
        state=state,
        mlflow_run_id=training.mlflow_run_id or "",
        least_cohort=training.least_cohort,
    )
