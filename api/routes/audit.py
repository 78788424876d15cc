"""The audit record."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth.guard import may
from api.auth.scopes import AUDIT_READ
from api.auth.tokens import Principal
from api.schemas.base import Printable
from api.schemas.records import AuditEventView
from api.services import ServicesDep
from db.queries import audit
from db.session import transaction

router = APIRouter(prefix="/audit", tags=["audit"])

Exactly = Annotated[str | None, Query(max_length=200, pattern=Printable)]


@router.get("/events", summary="Read the audit record")
def list_events(
    services: ServicesDep,
    _: Annotated[Principal, may(AUDIT_READ)],
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    subject: Exactly = None,
    action: Exactly = None,
) -> list[AuditEventView]:
    """Events by number, from the one after ``after``; of one subject or action when given."""
    with transaction(services.engine) as session:
        return [
            AuditEventView.model_validate(event, from_attributes=True)
            for event in audit.list_events(
                session, subject=subject, action=action, after=after, limit=limit
            )
        ]
