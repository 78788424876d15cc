"""The exchange's own messages; bodies of others are bytes."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from api.schemas.base import Body, View
from fl.invitation import Digest


class Refusal(Body):
    """Why a hospital takes no part in a round; names rules and counts, never data."""

    code: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9._-]{0,62}$")]
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class Received(View):
    """A message that the exchange holds."""

    digest: Digest
    size_bytes: int
