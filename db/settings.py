"""Where the database and the artifacts are.

engine = connect(DatabaseSettings())  # FEDMED_DATABASE_URL
"""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_POSTGRESQL = {"postgres", "postgresql", "postgresql+psycopg2"}


class DatabaseSettings(BaseSettings):
    """The coordinator's database.

    Attributes:
        database_url: ``postgresql://user:password@host:5432/fedmed``, from FEDMED_DATABASE_URL.
        pool_size: connections a process keeps open; it may open as many again for a moment.
    """

    model_config = SettingsConfigDict(
        env_prefix="FEDMED_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    database_url: SecretStr
    pool_size: int = Field(default=5, ge=1, le=100, validation_alias="FEDMED_DATABASE_POOL_SIZE")

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr) -> SecretStr:
        postgresql_url(value.get_secret_value())
        return value

    @property
    def url(self) -> URL:
        """The address with the driver this project uses; its ``repr`` hides the password."""
        return postgresql_url(self.database_url.get_secret_value())


class ArtifactSettings(BaseSettings):
    """Where weights and round messages are kept.

    Attributes:
        artifacts: an fsspec address such as ``/var/lib/fedmed/artifacts`` or ``s3://bucket/fedmed``,
            from FEDMED_ARTIFACTS.
    """

    model_config = SettingsConfigDict(
        env_prefix="FEDMED_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    artifacts: str = Field(min_length=1)


def postgresql_url(text: str) -> URL:
    """Reads an address of a PostgreSQL database and sets the driver.

    Raises:
        ValueError: not an address, or another kind of database. The text is not repeated: it may
            hold a password.

    >>> postgresql_url("postgresql://me:secret@host/fedmed")
    postgresql+psycopg2://me:***@host/fedmed
    """
    try:
        url = make_url(text)
    except ArgumentError:
        raise ValueError(
            "the database address cannot be read: write postgresql://user:password@host:5432/name"
        ) from None
    if url.drivername not in _POSTGRESQL:
        raise ValueError(
            f"the database is {url.drivername!r}: only PostgreSQL is supported, "
            "write postgresql://user:password@host:5432/name"
        )
    return url.set(drivername="postgresql+psycopg2")
