"""How trainings and rounds stand, read from the database in a few queries.

detail = training_detail(session, training, mlflow_url=settings.mlflow_url)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.schemas.models import ModelView
from api.schemas.trainings import (
    HospitalProgress,
    RoundView,
    TrainingDetail,
    TrainingStatus,
    TrainingView,
)
from db.errors import NotFound
from db.models import Model, Participation, Round, Training
from db.queries import models, rounds


def model_view(model: Model) -> ModelView:
    """A version of a model as the API shows it."""
    return ModelView.model_validate(
        {
            "model_id": model.id,
            "name": model.name,
            "version": model.version,
            "spec": model.spec,
            "public_test": model.public_test,
            "created_at": model.created_at,
        }
    )


def training_view(session: Session, training: Training, *, mlflow_url: str) -> TrainingView:
    """A training without its rounds."""
    model = models.get_model(session, id=training.model_id)
    return TrainingView.model_validate(_training_fields(training, model, mlflow_url))


def training_detail(session: Session, training: Training, *, mlflow_url: str) -> TrainingDetail:
    """A training with all its rounds and their hospitals."""
    all_rounds = rounds.list_rounds(session, training.id)
    model = models.get_model(session, id=training.model_id)
    fields = _training_fields(training, model, mlflow_url)
    return TrainingDetail.model_validate(
        {
            **fields,
            **_totals(all_rounds),
            "rounds": _round_views(session, all_rounds),
        }
    )


def training_status(session: Session, key: UUID, *, mlflow_url: str) -> TrainingStatus:
    """A training with the round of this id; with its latest round when the id is a training's.

    Raises:
        NotFound: neither a round nor a training.
    """
    of_round = select(Round.training_id).where(Round.id == key).scalar_subquery()
    found = session.execute(
        select(Training, Model)
        .join(Model, Training.model_id == Model.id)
        .where(Training.id == func.coalesce(of_round, key))
    ).one_or_none()
    if found is None:
        raise NotFound("round", key)
    training, model = found
    all_rounds = rounds.list_rounds(session, training.id)
    shown = next((r for r in all_rounds if r.id == key), all_rounds[-1])
    fields = _training_fields(training, model, mlflow_url)
    (round_view,) = _round_views(session, [shown])
    return TrainingStatus.model_validate({**fields, **_totals(all_rounds), "round": round_view})


def _training_fields(training: Training, model: Model, mlflow_url: str) -> dict[str, Any]:
    same = (
        *(
            "state",
            "reason",
            "model_id",
            "purpose",
            "strategy",
            "plan",
            "epsilon",
            "delta",
            "least_cohort",
        ),
        *("round_deadline_s", "requested_by", "created_at", "closed_at", "flow_run_id"),
        *("mlflow_run_id", "model_version"),
    )
    return {
        **{name: getattr(training, name) for name in same},
        "training_id": training.id,
        "model": model.name,
        "spec_version": model.version,
        "planned_rounds": training.rounds,
        "mlflow_url": mlflow_url,
    }


def _totals(all_rounds: Sequence[Round]) -> dict[str, Any]:
    completed = sum(r.kind == "training" and r.state == "completed" for r in all_rounds)
    # What has been spent never shrinks, whichever way the later rounds ended.
    spent = max((r.epsilon for r in all_rounds if r.epsilon is not None), default=0.0)
    return {"completed_rounds": completed, "epsilon_spent": spent}


def _round_views(session: Session, shown: Sequence[Round]) -> list[RoundView]:
    of_round: dict[UUID, list[Participation]] = defaultdict(list)
    for participation in session.scalars(
        select(Participation)
        .where(Participation.round_id.in_([r.id for r in shown]))
        .order_by(Participation.index)
    ):
        of_round[participation.round_id].append(participation)
    return [_round_view(found, of_round[found.id]) for found in shown]


def _round_view(found: Round, taking_part: Sequence[Participation]) -> RoundView:
    return RoundView(
        round_id=found.id,
        number=found.number,
        kind=found.kind,
        state=found.state,
        reason=found.reason,
        opened_at=found.opened_at,
        closed_at=found.closed_at,
        seconds=_seconds(found.opened_at, found.closed_at),
        metrics=found.metrics or {},
        epsilon=found.epsilon,
        delta=found.delta,
        flow_run_id=found.flow_run_id,
        hospitals=[_hospital_progress(participation) for participation in taking_part],
    )


def _hospital_progress(participation: Participation) -> HospitalProgress:
    stages = (
        participation.ended_at,
        participation.revealed_at,
        participation.uploaded_at,
        participation.enrolled_at,
    )
    last = next((stage for stage in stages if stage is not None), None)
    return HospitalProgress(
        hospital_id=participation.hospital_id,
        state=participation.state,
        reason_code=participation.reason_code,
        reason=participation.reason,
        seconds=_seconds(participation.invited_at, last),
    )


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start is not None and end is not None else None
