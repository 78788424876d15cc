"""The audit record, and whether the API serves."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from api.schemas.base import View


class AuditEventView(View):
    """One entry of the audit record; each carries the hash of the one before."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any]
    previous: str
    hash: str


class Health(View):
    """The API serves and its database answers."""

    status: Literal["ok"] = "ok"
