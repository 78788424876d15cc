"""Models: registering and reading them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from api.auth.guard import may
from api.auth.scopes import MODELS_WRITE, TRAINING_READ
from api.auth.tokens import Principal
from api.progress import model_view
from api.schemas.base import Version
from api.schemas.models import ModelView, StorableModelSpec
from api.services import ServicesDep
from db.queries import audit, models
from db.session import transaction
from fl.spec import ModelName

router = APIRouter(prefix="/models", tags=["models"])


@router.post("", status_code=201, summary="Register a model, or its next version")
def add_model(
    body: StorableModelSpec,
    services: ServicesDep,
    caller: Annotated[Principal, may(MODELS_WRITE)],
) -> ModelView:
    """A changed specification under a known name becomes its next version."""
    with transaction(services.engine) as session:
        model = models.add_model(session, name=body.name, spec=body.model_dump(mode="json"))
        audit.append_event(
            session,
            actor=caller.subject,
            action="model.added",
            subject=f"model:{model.id}",
            details={"name": model.name, "version": model.version},
            now=services.now(),
        )
        return model_view(model)


@router.get("", summary="List the models")
def list_models(
    services: ServicesDep, _: Annotated[Principal, may(TRAINING_READ)]
) -> list[ModelView]:
    """All versions of all models."""
    with transaction(services.engine) as session:
        return [model_view(model) for model in models.list_models(session)]


@router.get("/{name}", summary="Read a model")
def read_model(
    name: ModelName,
    services: ServicesDep,
    _: Annotated[Principal, may(TRAINING_READ)],
    version: Version | None = None,
) -> ModelView:
    """A version of a model, the newest unless one is named."""
    with transaction(services.engine) as session:
        return model_view(models.get_model(session, name=name, version=version))
