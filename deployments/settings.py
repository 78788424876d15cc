"""Where the local stack lives and listens.

settings = StackSettings()          # reads FEDMED_*; the command line adds those of .env
settings.home                       # one state directory, .fedmed by default
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr

from api.serving import LOOPBACK, AbsolutePath, Port, ServingSettings
from api.settings import Address
from tasks.hospital.site import PeerRule, SiteSettings

__all__ = ["LOOPBACK", "Port", "StackSettings"]


class StackSettings(ServingSettings):
    """One state directory and three ports; a server given by URL is used and not started.

    What it inherits says how the API is served.

    Attributes:
        home: the state directory; everything the stack writes lies below it.
        prefect_port: port of the Prefect server and its UI.
        mlflow_port: port of the MLflow server and its UI.
        prefect_url: a Prefect server's API to use instead of the embedded one.
        prefect_auth_string: ``user:password`` that the Prefect server asks for; the embedded one's
            is made at its first start unless set.
        ca_file: the authority that the hospitals of this machine trust, as `SiteSettings.ca_file`.
        database_url: a PostgreSQL server to use instead of the embedded one.
        artifacts: fsspec URL under which weights and round messages are kept.
        secrets_path: directory of the coordinator's secrets, ``secrets`` below home unless set.
    """

    home: AbsolutePath = Path(".fedmed")
    prefect_port: Port = 4200
    mlflow_port: Port = 5000
    prefect_url: Address | None = Field(default=None, validation_alias="PREFECT_API_URL")
    prefect_auth_string: SecretStr | None = Field(
        default=None, validation_alias="PREFECT_API_AUTH_STRING"
    )
    ca_file: AbsolutePath | None = None
    database_url: SecretStr | None = None
    artifacts: str | None = None
    secrets_path: AbsolutePath | None = Field(default=None, validation_alias="FEDMED_SECRETS")

    @property
    def listens(self) -> dict[str, tuple[str, int]]:
        """Host and port of each server that the stack starts, by the setting of the port."""
        prefect = {"FEDMED_PREFECT_PORT": (LOOPBACK, self.prefect_port)}
        return {
            **({} if self.prefect_url else prefect),
            "FEDMED_MLFLOW_PORT": (LOOPBACK, self.mlflow_port),
            "FEDMED_API_PORT": (self.api_host, self.api_port),
        }

    @property
    def prefect_ui(self) -> str:
        """Address of the Prefect UI."""
        return self.prefect_api_url.removesuffix("/api")

    @property
    def prefect_api_url(self) -> str:
        """Address of the Prefect API."""
        return (self.prefect_url or f"http://{LOOPBACK}:{self.prefect_port}/api").rstrip("/")

    @property
    def mlflow_url(self) -> str:
        """Address of the MLflow server and its UI."""
        return f"http://{LOOPBACK}:{self.mlflow_port}"

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
