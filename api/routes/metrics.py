"""The metrics of a model, over its trainings and rounds."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from api.auth.guard import may
from api.auth.scopes import METRICS_READ
from api.auth.tokens import Principal
from api.progress import model_view, training_detail
from api.schemas.base import Version
from api.schemas.trainings import ModelMetrics
from api.services import ServicesDep
from db.errors import NotFound
from db.models import Model
from db.queries import models, trainings
from db.session import transaction
from fl.spec import ModelName

router = APIRouter(prefix="/metrics", tags=["metrics"])


@router.get("/{model_id}", summary="Read a model's metrics by training and round")
def read_metrics(
    model_id: ModelName,
    services: ServicesDep,
    _: Annotated[Principal, may(METRICS_READ)],
    version: Version | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> ModelMetrics:
    """Takes a model's id, or its name: then its newest version unless one is named."""
    with transaction(services.engine) as session:
        model = _find(session, model_id, version=version)
        found = trainings.list_trainings(session, model_id=model.id, limit=limit)
        mlflow_url = services.settings.mlflow_url
        return ModelMetrics(
            model=model_view(model),
            trainings=[training_detail(session, t, mlflow_url=mlflow_url) for t in found],
        )


def _find(session: Session, key: str, *, version: int | None) -> Model:
    """An id is a possible name as well: ids are looked up first."""
    try:
        return models.get_model(session, id=UUID(key))
    except (ValueError, NotFound):
        return models.get_model(session, name=key, version=version)
