"""Models: registering and reading them, and the public test sets that they are scored on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from api.auth.guard import may
from api.auth.scopes import MODELS_WRITE, TRAINING_READ
from api.auth.tokens import Principal
from api.bodies import read_into
from api.progress import model_view
from api.public_test import hold_to_contract
from api.schemas.base import Version
from api.schemas.models import ModelView, StorableModelSpec
from api.services import Services, ServicesDep
from db.queries import audit, models
from db.session import transaction
from fl.contract import DataContract
from fl.spec import ModelName, ModelSpec

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


@router.put(
    "/{name}/public-test",
    summary="Give a model a public test set",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def put_public_test(
    request: Request,
    name: ModelName,
    services: ServicesDep,
    caller: Annotated[Principal, may(MODELS_WRITE)],
    version: Version | None = None,
) -> ModelView:
    """Trainings of this version are scored on it when they end, without noise.

    The body is the file itself: CSV, Parquet or npz with the contract's columns or images and the
    label. Its rows are taken for public. It is held to the data contract before it is kept; another
    one takes its place.
    """
    contract = await run_in_threadpool(_contract_of, services, name, version)
    with services.blobs.incoming() as body:
        await read_into(body, request, limit=services.settings.max_upload_bytes)
        await run_in_threadpool(hold_to_contract, body.as_file(), contract)
        digest = await run_in_threadpool(body.keep)
    return await run_in_threadpool(_name_public_test, services, caller, name, version, digest)


def _contract_of(services: Services, name: str, version: int | None) -> DataContract:
    with transaction(services.engine) as session:
        model = models.get_model(session, name=name, version=version)
        return ModelSpec.model_validate(model.spec).contract


def _name_public_test(
    services: Services, caller: Principal, name: str, version: int | None, digest: str
) -> ModelView:
    with transaction(services.engine) as session:
        model = models.get_model(session, name=name, version=version)
        models.set_public_test(session, model, digest=digest)
        audit.append_event(
            session,
            actor=caller.subject,
            action="model.public-test",
            subject=f"model:{model.id}",
            details={"name": model.name, "version": model.version, "sha256": digest},
            now=services.now(),
        )
        return model_view(model)
