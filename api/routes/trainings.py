"""Trainings: starting them and following their rounds."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from anyio import from_thread
from fastapi import APIRouter, Query
from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.auth.guard import may
from api.auth.scopes import TRAINING_READ, TRAINING_START
from api.auth.tokens import Principal
from api.errors import too_few_hospitals
from api.progress import training_detail, training_status, training_view
from api.schemas.trainings import TrainingDetail, TrainingStarted, TrainingStatus, TrainingView
from api.services import ServicesDep
from db.models import Model
from db.queries import audit, hospitals, models, rounds, trainings
from db.session import transaction
from fl.recipes import CompleteRequest, completed
from fl.spec import ModelSpec, TrainingRequest
from privacy.errors import PlanError
from privacy.plan import PrivacyPlan, PrivacyRequest
from privacy.settings import PrivacySettings

router = APIRouter(prefix="/training", tags=["trainings"])

TRAINING_DEPLOYMENT: Final = "federated-training/federated-training"


@router.post("/start", status_code=202, summary="Start a training")
def start_training(
    body: TrainingRequest,
    services: ServicesDep,
    caller: Annotated[Principal, may(TRAINING_START)],
) -> TrainingStarted:
    """Prices the privacy plan, writes the training and schedules its flow run.

    With ``pace`` ``scheduled`` no run is made: each run of ``federated-round`` takes a round.
    """
    # What is cheap to refuse is refused before the plan is computed, outside of the transaction
    # that writes: computing takes a second or more.
    privacy = privacy_request(body.privacy, services.settings.privacy)
    with transaction(services.engine) as session:
        spec = ModelSpec.model_validate(_startable_model(session, body).spec)
    request = _completed(body.model_copy(update={"privacy": privacy}), spec)
    plan, epsilon = _priced_plan(request)
    with transaction(services.engine) as session:
        model = _startable_model(session, body)
        training = trainings.add_training(
            session,
            model_id=model.id,
            rounds=request.rounds,
            strategy=request.strategy.model_dump(mode="json"),
            plan=plan.model_dump(mode="json"),
            epsilon=epsilon,
            delta=plan.delta,
            least_cohort=body.least_cohort,
            round_deadline_s=body.round_deadline_s,
            requested_by=caller.subject,
            purpose=body.purpose,
        )
        (first,) = rounds.list_rounds(session, training.id)
        if body.pace == "at-once":
            # Before the commit: when Prefect refuses, nothing stays written.
            run_id = from_thread.run(_create_run, services, training.id, model.name)
            trainings.set_training_runs(session, training_id=training.id, flow_run_id=str(run_id))
        audit.append_event(
            session,
            actor=caller.subject,
            action="training.requested",
            subject=f"training:{training.id}",
            details={
                "model": model.name,
                "spec_version": model.version,
                "purpose": body.purpose,
                "rounds": request.rounds,
                "recipe": request.recipe,
                "pace": body.pace,
                "plan": plan.model_dump(mode="json"),
                "epsilon": epsilon,
            },
            now=services.now(),
        )
    return TrainingStarted(
        training_id=training.id,
        round_id=first.id,
        plan=plan,
        epsilon=epsilon,
        delta=plan.delta,
        status_url=f"/training/status/{training.id}",
    )


@router.get("", summary="List the trainings")
def list_trainings(
    services: ServicesDep,
    _: Annotated[Principal, may(TRAINING_READ)],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[TrainingView]:
    """The newest trainings first."""
    with transaction(services.engine) as session:
        return [
            training_view(session, training, mlflow_url=services.settings.mlflow_url)
            for training in trainings.list_trainings(session, limit=limit)
        ]


@router.get("/status/{round_id}", summary="How a round and its training stand")
def read_status(
    round_id: UUID, services: ServicesDep, _: Annotated[Principal, may(TRAINING_READ)]
) -> TrainingStatus:
    """Takes a round's id, or a training's: then the latest round is shown."""
    with transaction(services.engine) as session:
        return training_status(session, round_id, mlflow_url=services.settings.mlflow_url)


@router.get("/{training_id}", summary="Read a training with all its rounds")
def read_training(
    training_id: UUID, services: ServicesDep, _: Annotated[Principal, may(TRAINING_READ)]
) -> TrainingDetail:
    """One training."""
    with transaction(services.engine) as session:
        training = trainings.get_training(session, training_id)
        return training_detail(session, training, mlflow_url=services.settings.mlflow_url)


def privacy_request(given: PrivacyRequest, defaults: PrivacySettings) -> PrivacyRequest:
    """Returns what was asked for, completed by the defaults.

    Raises:
        PlanError: what was asked for and the defaults do not go together.
    """
    try:
        return defaults.completed(given.model_dump(exclude_unset=True, exclude_none=True))
    except ValidationError as error:
        raise PlanError(error.errors()[0]["msg"]) from error


def _startable_model(session: Session, body: TrainingRequest) -> Model:
    """Returns the model's newest version, when there are hospitals enough to train it."""
    model = models.get_model(session, name=body.model)
    found = len(hospitals.invitable_hospitals(session))
    if found < body.least_cohort:
        raise too_few_hospitals(least=body.least_cohort, found=found)
    return model


def _completed(body: TrainingRequest, spec: ModelSpec) -> CompleteRequest:
    try:
        return completed(body, spec.architecture)
    except ValidationError as error:
        raise PlanError(error.errors()[0]["msg"]) from error


def _priced_plan(request: CompleteRequest) -> tuple[PrivacyPlan, float]:
    # Imported at the first training: the accountants bring SciPy, which would double the memory of
    # an idle API and the time it takes to start.
    from privacy.calibration import plan_for
    from privacy.pricing import epsilon_of_plan

    plan = plan_for(request.privacy, rounds=request.rounds)
    return plan, epsilon_of_plan(plan)


async def _create_run(services: ServicesDep, training_id: UUID, model: str) -> UUID:
    return await services.prefect.create_flow_run(
        deployment=TRAINING_DEPLOYMENT,
        name=f"{model}-{str(training_id)[:8]}",
        parameters={"training_id": str(training_id)},
        idempotency_key=str(training_id),
    )
