"""``.env.example`` names every setting, and shows the defaults that the code has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from api.serving import ServingSettings
from api.settings import ApiSettings
from db.settings import ArtifactSettings, DatabaseSettings
from deployments.settings import StackSettings
from privacy.settings import PrivacySettings
from tasks.hospital.site import SiteSettings
from tasks.settings import RegistrySettings

EXAMPLE: Final = Path(__file__).parents[3] / ".env.example"
LINE: Final = re.compile(r"^(?P<hash>#?)(?P<name>[A-Z][A-Z_]*)=(?P<value>.*)$", re.MULTILINE)

DATABASE: Final = {"database_url": "postgresql://fedmed@db.example.org/fedmed"}
# What each class needs to be made at all.
REQUIRED: Final[Mapping[type[BaseSettings], Mapping[str, Any]]] = {
    ApiSettings: {
        "secrets": Path("secrets"),
        "database": DatabaseSettings(**DATABASE),
        "artifact_store": ArtifactSettings(artifacts="artifacts"),
    },
    ServingSettings: {},
    StackSettings: {},
    SiteSettings: {
        "hospital_id": "north",
        "hospital_home": Path("north"),
        "data_path": Path("table.csv"),
        "api_url": "https://fedmed.example.org",
    },
    DatabaseSettings: DATABASE,
    ArtifactSettings: {"artifacts": "artifacts"},
    PrivacySettings: {},
    RegistrySettings: {},
}


def names_of(settings: type[BaseSettings]) -> Iterator[str]:
    """The variable of each setting; the first, where several are read."""
    for name, field in settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseSettings):
            continue  # settings of their own
        yield variable(name, field)


def variable(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    first = alias.choices[0] if isinstance(alias, AliasChoices) else alias
    return str(first) if first is not None else f"FEDMED_{name.upper()}"


def shown() -> list[tuple[str, str, bool]]:
    """Name, value and whether it is shown as a default, of each line of the file."""
    found = LINE.finditer(EXAMPLE.read_text())
    return [(line["name"], line["value"], not line["hash"]) for line in found]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which nothing is set."""
    for name in [name for name in os.environ if name.startswith(("FEDMED_", "PREFECT_", "MLFLOW"))]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("settings", REQUIRED, ids=lambda settings: settings.__name__)
def test_every_setting_is_named(settings: type[BaseSettings]) -> None:
    assert set(names_of(settings)) - {name for name, _, _ in shown()} == set()


def test_every_name_is_a_setting_and_is_there_once() -> None:
    names = [name for name, _, _ in shown()]
    assert sorted(names) == sorted(set(names))
    assert set(names) - {name for settings in REQUIRED for name in names_of(settings)} == set()


@pytest.mark.parametrize("settings", REQUIRED, ids=lambda settings: settings.__name__)
def test_what_is_shown_as_a_default_is_one(
    settings: type[BaseSettings], plain: pytest.MonkeyPatch
) -> None:
    defaults = settings(**REQUIRED[settings])
    for name, value, is_default in shown():
        if is_default:
            plain.setenv(name, value)
    assert settings(**REQUIRED[settings]) == defaults


@pytest.mark.parametrize("settings", REQUIRED, ids=lambda settings: settings.__name__)
def test_what_has_a_default_shows_it(settings: type[BaseSettings]) -> None:
    defaults = {name for name, _, is_default in shown() if is_default}
    plain_values = {
        variable(name, field)
        for name, field in settings.model_fields.items()
        if isinstance(field.default, bool | int | float | str)
    }
    computed = {"FEDMED_API_URL", "FEDMED_MLFLOW_URL", "PREFECT_API_URL", "FEDMED_TRUSTED_PROXIES"}
    assert plain_values - defaults - computed == set()
