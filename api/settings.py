"""What the API needs to know: where its servers are, how long tokens live, how large bodies may be.

app = create_app(ApiSettings())  # reads FEDMED_*, PREFECT_API_URL, MLFLOW_TRACKING_URI
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    IPvAnyNetwork,
    SecretStr,
    StringConstraints,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api.auth.issuer_keys import require_safe_address
from api.auth.oidc import OidcSettings, RoleMap, parse_role_map
from api.auth.tokens import LONGEST_LIFETIME_S
from db.settings import ArtifactSettings, DatabaseSettings
from privacy.settings import PrivacySettings

Address = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+(/[^\s]*)?$")]
MIB = 1024 * 1024


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _role_map(value: object) -> object:
    return parse_role_map(value) if isinstance(value, str) else value


Networks = Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_comma_separated)]
Roles = Annotated[RoleMap, NoDecode, BeforeValidator(_role_map)]


class ApiSettings(BaseSettings):
    """The API's settings; everything has a default but the database, the artifacts and the secrets.

    Attributes:
        database: the coordinator's database.
        artifact_store: where weights and round messages are kept.
        privacy: what a training asks for when its request leaves it out.
        secrets: directory of the signing key and the operator's first password, mode 0700.
        api_url: address under which clients reach this API.
        issuer: ``iss`` of the tokens; the API's address unless set.
        audience: ``aud`` of the tokens.
        token_lifetime_s: seconds a person's token is valid.
        hospital_token_lifetime_s: seconds a hospital's token is valid.
        trusted_proxies: networks whose ``X-Forwarded-For`` is believed, separated by commas.
        oidc_issuer: an OpenID Connect issuer whose people may call too; none unless set.
        oidc_audience: ``aud`` that its tokens must name.
        oidc_roles_claim: the claim that lists a person's roles there; a dotted path or a name.
        oidc_role_map: its roles and ours, such as ``consortium-ops=operator,ml=scientist``.
        prefect_api_url: the Prefect server's API.
        prefect_api_auth_string: ``user:password`` when that server asks for one.
        mlflow_url: the MLflow server, for links.
        max_upload_bytes: largest masked update, and public test set, that is taken.
        max_message_bytes: largest other message of a round that is taken.
        max_body_bytes: largest JSON body that is taken.
        max_wait_s: longest that a long poll of the exchange is held open.
        dispatch_wait_s: how long a hospital's question for work is held open; its Prefect client
            gives up after 60 seconds.
    """

    model_config = SettingsConfigDict(
        env_prefix="FEDMED_",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        # An error of one setting would show the others, secrets among them.
        hide_input_in_errors=True,
    )

    database: DatabaseSettings = Field(default_factory=lambda: DatabaseSettings())
    artifact_store: ArtifactSettings = Field(default_factory=lambda: ArtifactSettings())
    privacy: PrivacySettings = Field(default_factory=lambda: PrivacySettings())
    secrets: Path
    api_url: Address = "http://127.0.0.1:8000"
    issuer: str | None = None
    audience: str = "fedmed"
    token_lifetime_s: int = Field(default=1800, ge=10, le=LONGEST_LIFETIME_S)
    hospital_token_lifetime_s: int = Field(default=300, ge=10, le=LONGEST_LIFETIME_S)
    trusted_proxies: Networks = ()
    oidc_issuer: Address | None = None
    oidc_audience: str | None = Field(default=None, min_length=1)
    oidc_roles_claim: str = Field(default="roles", min_length=1)
    oidc_role_map: Roles = Field(default_factory=dict)
    prefect_api_url: Address = Field(
        default="http://127.0.0.1:4200/api", validation_alias="PREFECT_API_URL"
    )
    prefect_api_auth_string: SecretStr | None = Field(
        default=None, validation_alias="PREFECT_API_AUTH_STRING"
    )
    mlflow_url: Address = Field(
        default="http://127.0.0.1:5000",
        validation_alias=AliasChoices("FEDMED_MLFLOW_URL", "MLFLOW_TRACKING_URI"),
    )
    max_upload_bytes: int = Field(default=256 * MIB, ge=1)
    max_message_bytes: int = Field(default=MIB, ge=1)
    max_body_bytes: int = Field(default=2 * MIB, ge=1)
    max_wait_s: float = Field(default=30.0, ge=0, le=300)
    dispatch_wait_s: float = Field(default=50.0, ge=0, le=300)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """An issuer without an audience would let in tokens that were meant for others."""
        if self.oidc_issuer is None:
            return self
        require_safe_address(self.oidc_issuer)
        if self.oidc_audience is None:
            raise ValueError("oidc_audience: set it to what the issuer's tokens for this API name")
        if self.oidc_issuer == self.token_issuer:
            raise ValueError("oidc_issuer: it is this API itself")
        return self

    @property
    def oidc(self) -> OidcSettings | None:
        """What is expected of an external issuer's tokens, when there is one."""
        if self.oidc_issuer is None or self.oidc_audience is None:
            return None
        return OidcSettings(
            issuer=self.oidc_issuer,
            audience=self.oidc_audience,
            roles_claim=self.oidc_roles_claim,
            role_map=self.oidc_role_map,
        )

    @property
    def longest_token_lifetime_s(self) -> int:
        """Seconds that any token is valid at most."""
        return max(self.token_lifetime_s, self.hospital_token_lifetime_s)

    @property
    def token_issuer(self) -> str:
        """``iss`` of the tokens."""
        return self.issuer or self.api_url

    @property
    def token_url(self) -> str:
        """Address of the token endpoint."""
        return f"{self.api_url.rstrip('/')}/oauth/token"

    def wait_s(self, asked: float) -> float:
        """Bounds what a client asks a long poll to wait, in seconds."""
        return min(max(asked, 0.0), self.max_wait_s)
