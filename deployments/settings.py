"""Where the local stack lives and listens.

settings = StackSettings()          # reads FEDMED_*; the command line adds those of .env
settings.home                       # one state directory, .fedmed by default
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.hospital.site import AbsolutePath, PeerRule, SiteSettings

Port = Annotated[int, Field(ge=1, le=65_535)]
LOOPBACK: Final = "127.0.0.1"


class StackSettings(BaseSettings):
    """One state directory and three ports; a server given by URL is used and not started.

    Attributes:
        home: the state directory; everything the stack writes lies below it.
        prefect_port: port of the Prefect server and its UI.
        mlflow_port: port of the MLflow server and its UI.
        api_port: port of the project's API.
        database_url: a PostgreSQL server to use instead of the embedded one.
        artifacts: fsspec URL under which weights and round messages are kept.
        secrets_path: directory of the coordinator's secrets, ``secrets`` below home unless set.
    """

    model_config = SettingsConfigDict(
        env_prefix="FEDMED_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    home: AbsolutePath = Path(".fedmed")
    prefect_port: Port = 4200
    mlflow_port: Port = 5000
    api_port: Port = 8000
    database_url: str | None = None
    artifacts: str | None = None
    secrets_path: AbsolutePath | None = Field(default=None, validation_alias="FEDMED_SECRETS")

    @property
    def ports(self) -> dict[str, int]:
        """The stack's ports by the name of their setting."""
        return {
            "FEDMED_PREFECT_PORT": self.prefect_port,
            "FEDMED_MLFLOW_PORT": self.mlflow_port,
            "FEDMED_API_PORT": self.api_port,
        }

    @property
    def prefect_ui(self) -> str:
        """Address of the Prefect UI."""
        return f"http://{LOOPBACK}:{self.prefect_port}"

    @property
    def prefect_api_url(self) -> str:
        """Address of the Prefect API."""
        return f"{self.prefect_ui}/api"

    @property
    def mlflow_url(self) -> str:
        """Address of the MLflow server and its UI."""
        return f"http://{LOOPBACK}:{self.mlflow_port}"

    @property
    def api_url(self) -> str:
        """Address of the project's API."""
        return f"http://{LOOPBACK}:{self.api_port}"

    @property
    def api_docs(self) -> str:
        """Address of the API's documentation page."""
        return f"{self.api_url}/docs"

    @property
    def secrets(self) -> Path:
        """Directory of the coordinator's secrets, mode 0700."""
        return self.secrets_path or self.home / "secrets"

    @property
    def logs(self) -> Path:
        """Directory of the servers' logs."""
        return self.home / "logs"

    @property
    def temporary(self) -> Path:
        """Directory of the servers' temporary files."""
        return self.home / "tmp"

    def site(
        self,
        hospital_id: str,
        data_path: Path,
        *,
        # One person runs the demo's hospitals on one machine: there is nobody to compare
        # fingerprints with.
        peers: PeerRule | None = "first-use",
    ) -> SiteSettings:
        """The settings of a hospital that runs on this machine, below the same directory.

        With ``peers=None`` the environment says whose keys it takes, as at any hospital.
        """
        rule: dict[str, Any] = {} if peers is None else {"peers": peers}
        return SiteSettings(
            **rule,
            hospital_id=hospital_id,
            hospital_home=self.home / "hospitals" / hospital_id,
            data_path=data_path,
            api_url=self.api_url,
        )

    @property
    def artifacts_url(self) -> str:
        """The artifact store, below the state directory unless configured."""
        return self.artifacts or (self.home / "artifacts").as_uri()
