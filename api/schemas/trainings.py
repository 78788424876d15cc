"""Trainings, their rounds and what those measured."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from api.schemas.base import View
from api.schemas.models import ModelView
from fl.spec import ModelName, Purpose
from privacy.plan import PrivacyPlan


class HospitalProgress(View):
    """A hospital in a round; ``seconds`` run from its invitation to its last message."""

    hospital_id: str
    state: str
    reason_code: str | None
    reason: str | None
    seconds: float | None


class RoundView(View):
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


class TrainingView(View):
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


class TrainingStarted(View):
    """A training that was accepted; its flow run is scheduled."""

    training_id: UUID
    round_id: UUID
    plan: PrivacyPlan
    epsilon: float
    delta: float
    status_url: str


class ModelMetrics(View):
    """The metrics of all trainings of a model, the newest training first."""

    model: ModelView
    trainings: list[TrainingDetail]
