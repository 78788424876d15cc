from __future__ import annotations

import pytest
from pydantic import ValidationError

from db.settings import ArtifactSettings, DatabaseSettings, postgresql_url


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_any_spelling_of_postgresql_gets_the_driver_we_use(scheme: str) -> None:
    url = postgresql_url(f"{scheme}://me:p%40ss@host:5433/fedmed?sslmode=require")

    assert url.drivername == "postgresql+psycopg2"
    assert (url.username, url.password, url.port) == ("me", "p@ss", 5433)
    assert url.query == {"sslmode": "require"}


@pytest.mark.parametrize("text", ["sqlite:///fedmed.db", "mysql://me:secret@host/x", "no address"])
def test_another_database_is_refused_without_repeating_the_address(text: str) -> None:
    with pytest.raises(ValidationError, match="postgresql://user:password@host") as refused:
        DatabaseSettings(database_url=text)
    assert "secret" not in str(refused.value)


def test_the_password_is_not_in_the_settings_text() -> None:
    settings = DatabaseSettings(database_url="postgresql://me:secret@host/fedmed")

    assert "secret" not in f"{settings!r} {settings.url!r}"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMED_DATABASE_URL", "postgresql://host/fedmed")
    monkeypatch.setenv("FEDMED_DATABASE_POOL_SIZE", "7")
    monkeypatch.setenv("FEDMED_ARTIFACTS", "memory://artifacts")

    settings = DatabaseSettings()

    assert (settings.url.database, settings.pool_size) == ("fedmed", 7)
    assert ArtifactSettings().artifacts == "memory://artifacts"
