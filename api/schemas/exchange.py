"""The exchange's own messages; bodies of others are bytes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from api.schemas.base import Body, View
from fl.invitation import Digest
from fl.spec import ModelName


class Refusal(Body):
    """Why a hospital takes no part in a round; names rules and counts, never data."""

    code: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9._-]{0,62}$")]
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class Received(View):
    """A message that the exchange holds."""

    digest: Digest
    size_bytes: int


class TrainingFigures(View):
    """What a training's closing evaluation has measured on all hospitals together.

    Until there is one, all that it tells is empty. ``epsilon`` is spent by its end; ``weights`` is
    the SHA-256 of what it evaluated; ``hospitals`` counts those whose rows are in the figures.
    """

    training_id: UUID
    model: ModelName
    version: int
    state: str
    epsilon: float | None = None
    delta: float | None = None
    weights: Digest | None = None
    metrics: dict[str, Any] = Field(default_factory=dict)
    hospitals: int | None = None
    closed_at: datetime | None = None
