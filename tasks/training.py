"""Beginning and ending a training: what happens once, not once a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

import tenacity
from prefect import task
from prefect.cache_policies import NO_CACHE
from sqlalchemy.orm import Session

from db.errors import NotFound
from db.models import Model, Outcome, Training
from db.queries import audit, hospitals, models, rounds, trainings
from db.session import transaction
from fl.recipes import completed
from fl.spec import ModelSpec, TrainingRequest
from privacy.calibration import plan_for
from privacy.plan import PrivacyPlan
from privacy.pricing import epsilon_by_round, epsilon_of_plan
from tasks.apart import run_apart
from tasks.coordinator import COORDINATOR_ACTOR, Coordinator
from tasks.models import encoded_initial_weights
from tasks.run_fields import TrainingFacts
from tasks.track import start_run


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """A training between two rounds.

    Attributes:
        rounds: rounds it was declared with.
        attempted: rounds that were opened, of either kind, however they ended.
        completed: training rounds behind it.
        charged: training rounds in which a hospital released a masked update, failed ones included;
            each of them spends a round of the plan.
        state: ``pending``, ``running``, ``completed`` or ``failed``.
        weights: SHA-256, hex, of the weights it stands at.
        strategy: the strategy's specification.
        public_test: SHA-256 of the model's public test set; None without one.
    """

    training_id: UUID
    model_id: UUID
    model_version: int
    purpose: str
    requested_by: str
    spec: ModelSpec
    plan: PrivacyPlan
    rounds: int
    attempted: int
    completed: int
    charged: int
    state: str
    weights: str
    mlflow_run_id: str
    strategy: Mapping[str, Any]
    least_cohort: int
    public_test: str | None

    @property
    def has_rounds_left(self) -> bool:
        """Whether the plan still pays for a training round."""
        return self.charged < self.rounds


@task(name="request_training", cache_policy=NO_CACHE, persist_result=False)
def request_training(coordinator: Coordinator, request: TrainingRequest) -> UUID:
    """Writes a training that was started in the Prefect UI rather than through the API."""
    with transaction(coordinator.engine) as session:
        model = models.get_model(session, name=request.model)
        complete = completed(request, ModelSpec.model_validate(model.spec).architecture)
    plan = plan_for(complete.privacy, rounds=complete.rounds)
    with transaction(coordinator.engine) as session:
        training = trainings.add_training(
            session,
            model_id=model.id,
            rounds=complete.rounds,
            strategy=complete.strategy.model_dump(mode="json"),
            plan=plan.model_dump(mode="json"),
            epsilon=epsilon_of_plan(plan),
            delta=plan.delta,
            least_cohort=request.least_cohort,
            round_deadline_s=request.round_deadline_s,
            requested_by="prefect",
            purpose=request.purpose,
        )
        audit.append_event(
            session,
            actor="prefect",
            action="training.requested",
            subject=f"training:{training.id}",
            details={
                "model": model.name,
                "purpose": request.purpose,
                "rounds": complete.rounds,
                "recipe": complete.recipe,
            },
            now=coordinator.now(),
        )
        return training.id


# The API schedules the flow run a moment before it commits the training.
@tenacity.retry(
    retry=tenacity.retry_if_exception_type(NotFound),
    wait=tenacity.wait_fixed(0.2),
    stop=tenacity.stop_after_delay(5),
    reraise=True,
)
def _written_training(coordinator: Coordinator, training_id: UUID) -> tuple[Training, Model]:
    with transaction(coordinator.engine) as session:
        training = trainings.get_training(session, training_id)
        return training, models.get_model(session, id=training.model_id)


@task(name="prepare_training", cache_policy=NO_CACHE, persist_result=False)
def prepare_training(
    coordinator: Coordinator, training_id: UUID, *, flow_run_id: str | None = None
) -> TrainingProgress:
    """Gives the training its initial weights and its MLflow run; does nothing the second time.

    Args:
        coordinator: what it works on.
        training_id: the training.
        flow_run_id: the run that drives all its rounds; None when each round is a run of its own.
    """
    training, model = _written_training(coordinator, training_id)
    spec = ModelSpec.model_validate(model.spec)
    if training.weights is None or training.mlflow_run_id is None:
        # The seed only spreads the initial weights; it is public and protects nothing.
        weights = run_apart(encoded_initial_weights, spec, seed=training_id.int % 2**32)
        run_id = start_run(_facts(coordinator, training, model, spec))
        with transaction(coordinator.engine) as session:
            trainings.start_training(
                session,
                training_id=training_id,
                weights=coordinator.blobs.put(weights),
                mlflow_run_id=run_id,
                flow_run_id=flow_run_id,
            )
    return progress(coordinator, training_id)


def _facts(
    coordinator: Coordinator, training: Training, model: Model, spec: ModelSpec
) -> TrainingFacts:
    with transaction(coordinator.engine) as session:
        requested = audit.list_events(
            session, subject=f"training:{training.id}", action="training.requested", limit=1
        )
        invitable = len(hospitals.invitable_hospitals(session))
    return TrainingFacts(
        training_id=training.id,
        spec=spec,
        model_version=model.version,
        purpose=training.purpose,
        requested_by=training.requested_by,
        recipe=str(requested[0].details.get("recipe", "")) if requested else "",
        strategy=training.strategy,
        plan=PrivacyPlan.model_validate(training.plan),
        epsilon=training.epsilon,
        least_cohort=training.least_cohort,
        hospitals=invitable,
        public_test=model.public_test,
    )


def progress(coordinator: Coordinator, training_id: UUID) -> TrainingProgress:
    """Returns where a training stands."""
    with transaction(coordinator.engine) as session:
        training = trainings.get_training(session, training_id)
        model = models.get_model(session, id=training.model_id)
        all_rounds = rounds.list_rounds(session, training_id)
        charged = rounds.charged_rounds(session, training_id)
    return TrainingProgress(
        training_id=training_id,
        model_id=model.id,
        model_version=model.version,
        purpose=training.purpose,
        requested_by=training.requested_by,
        spec=ModelSpec.model_validate(model.spec),
        plan=PrivacyPlan.model_validate(training.plan),
        rounds=training.rounds,
        attempted=sum(r.state != "pending" for r in all_rounds),
        completed=sum(r.kind == "training" and r.state == "completed" for r in all_rounds),
        charged=charged,
        state=training.state,
        weights=training.weights or "",
        mlflow_run_id=training.mlflow_run_id or "",
        strategy=training.strategy,
        least_cohort=training.least_cohort,
        public_test=model.public_test,
    )


def next_scheduled_training(coordinator: Coordinator) -> UUID | None:
    """Returns the oldest training that runs by schedule and has not ended, if there is one.

    Such a training has no flow run of its own.
    """
    with transaction(coordinator.engine) as session:
        unfinished = trainings.unfinished_trainings(session)
    waiting = (training.id for training in unfinished if training.flow_run_id is None)
    return next(waiting, None)


def epsilon_spent(coordinator: Coordinator, plan: PrivacyPlan, training_id: UUID) -> float:
    """Returns what a training has spent so far, at the plan's delta."""
    with transaction(coordinator.engine) as session:
        charged = rounds.charged_rounds(session, training_id)
    return (0.0, *_epsilon_by_round(plan))[charged]


@lru_cache(maxsize=8)
def _epsilon_by_round(plan: PrivacyPlan) -> tuple[float, ...]:
    """Pricing a plan costs a moment, and every round of a training asks for the same one."""
    return epsilon_by_round(plan)


def history(coordinator: Coordinator, training_id: UUID) -> list[dict[str, float]]:
    """Returns the figures by rounds trained, from 0: epsilon spent and what was measured."""
    with transaction(coordinator.engine) as session:
        done = [r for r in rounds.list_rounds(session, training_id) if r.state == "completed"]
    figures: list[dict[str, float]] = []
    spent = 0.0
    for finished in done:
        figures.append({**(finished.metrics or {}), "epsilon": spent})
        spent = finished.epsilon or spent
    return figures


@task(name="close_training", cache_policy=NO_CACHE, persist_result=False)
def close_training(
    coordinator: Coordinator,
    training_id: UUID,
    *,
    state: Outcome,
    reason: str | None = None,
    model_version: str | None = None,
) -> None:
    """Ends the training and appends its record."""
    with transaction(coordinator.engine) as session:
        training = trainings.close_training(
            session,
            training_id=training_id,
            state=state,
            reason=reason,
            model_version=model_version,
            now=coordinator.now(),
        )
        _append_closing_event(session, coordinator, training)


def _append_closing_event(session: Session, coordinator: Coordinator, training: Training) -> None:
    audit.append_event(
        session,
        actor=COORDINATOR_ACTOR,
        action=f"training.{training.state}",
        subject=f"training:{training.id}",
        details={
            "weights": training.weights,
            "model_version": training.model_version,
            "reason": training.reason,
        },
        now=coordinator.now(),
    )
