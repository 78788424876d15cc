"""What the coordinator's tasks work on: the database, the blob store and the clock.

coordinator = Coordinator.from_environment()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from sqlalchemy import Engine

from db.blobs import BlobStore
from db.session import connect
from db.settings import ArtifactSettings, DatabaseSettings
from fl.champion import DEFAULT_MARGIN
from tasks.settings import RegistrySettings

COORDINATOR_ACTOR: Final = "coordinator"
"""Who the audit events of a flow name as their actor."""


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Coordinator:
    """The coordinator's resources, opened once a flow run.

    Attributes:
        champion_margin: by how much an AUC must be larger to move a model's champion.
    """

    engine: Engine
    blobs: BlobStore
    now: Callable[[], datetime] = utc_now
    champion_margin: float = DEFAULT_MARGIN

    @classmethod
    def from_environment(cls) -> Self:
        """Opens what FEDMED_DATABASE_URL and FEDMED_ARTIFACTS name."""
        return cls(
            connect(DatabaseSettings()),
            BlobStore(ArtifactSettings().artifacts),
            champion_margin=RegistrySettings().champion_margin,
        )
