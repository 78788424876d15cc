"""Registered models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from api.schemas.base import View
from fl.spec import ModelName, ModelSpec


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


class ModelView(View):
    """A version of a model; ``public_test`` is the SHA-256 of its public test set."""

    model_id: UUID
    name: ModelName
    version: int
    spec: ModelSpec
    public_test: str | None = None
    created_at: datetime


class OfferedModel(View):
    """A registered model, for hospitals to hold their table to its data contract."""

    name: ModelName
    version: int
    spec: ModelSpec
