"""Whether the API serves."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import text

from api.schemas.records import Health
from api.services import ServicesDep
from db.session import transaction

router = APIRouter(tags=["health"])


@router.get("/health", summary="Whether the API serves and its database answers")
def health(services: ServicesDep) -> Health:
    """Answers 200 when the database answers, 503 otherwise."""
    with transaction(services.engine) as session:
        session.execute(text("SELECT 1"))
    return Health()
