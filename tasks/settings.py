"""What the coordinator's flows are told beside where the database and the artifacts are.

RegistrySettings().champion_margin  # FEDMED_CHAMPION_MARGIN
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from fl.champion import DEFAULT_MARGIN


class RegistrySettings(BaseSettings):
    """How the model registry is kept.

    Attributes:
        champion_margin: by how much a new version's AUC must be larger than the champion's to take
            its place, from 0.
    """

    model_config = SettingsConfigDict(
        env_prefix="FEDMED_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    champion_margin: float = Field(default=DEFAULT_MARGIN, ge=0, le=1, allow_inf_nan=False)
