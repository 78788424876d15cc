"""Where a stack lives and listens, from the environment alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from deployments.settings import StackSettings

pytestmark = pytest.mark.usefixtures("settings")  # an environment without other settings


def test_secrets_lie_below_the_state_directory_unless_named(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert settings.secrets == tmp_path / "home" / "secrets"
    monkeypatch.setenv("FEDMED_SECRETS", str(tmp_path / "elsewhere"))
    assert StackSettings().secrets == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    "name",
    ["HOME", "PREFECT_PORT", "MLFLOW_PORT", "API_PORT", "DATABASE_URL", "ARTIFACTS", "SECRETS"],
)
def test_an_empty_value_means_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """As a line of ``.env`` that names a setting and gives none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDMED_HOME")
    default = StackSettings()
    monkeypatch.setenv(f"FEDMED_{name}", "")
    assert StackSettings() == default
    assert default.home == tmp_path / ".fedmed"


@pytest.mark.parametrize("value", ["0", "65536", "-1", "eighty", "80.5"])
@pytest.mark.parametrize("name", ["prefect_port", "mlflow_port", "api_port"])
def test_what_is_no_port_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"FEDMED_{name.upper()}", value)
    with pytest.raises(ValidationError) as refused:
        StackSettings()
    assert [error["loc"] for error in refused.value.errors()] == [(name,)]


def test_a_relative_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDMED_HOME", "state/../here")
    assert StackSettings().home == tmp_path / "here"


def test_every_address_is_this_machine_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, port in (("PREFECT", "1"), ("MLFLOW", "2"), ("API", "3")):
        monkeypatch.setenv(f"FEDMED_{name}_PORT", port)
    settings = StackSettings()
    assert settings.prefect_ui == "http://127.0.0.1:1"
    assert settings.prefect_api_url == "http://127.0.0.1:1/api"
    assert settings.mlflow_url == "http://127.0.0.1:2"
    assert settings.api_url == "http://127.0.0.1:3"
    assert settings.api_docs == "http://127.0.0.1:3/docs"
    assert settings.listens == {
        "FEDMED_PREFECT_PORT": ("127.0.0.1", 1),
        "FEDMED_MLFLOW_PORT": ("127.0.0.1", 2),
        "FEDMED_API_PORT": ("127.0.0.1", 3),
    }


def test_configured_artifacts_are_used_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMED_ARTIFACTS", "s3://bucket/fedmed")
    assert StackSettings().artifacts_url == "s3://bucket/fedmed"


def test_a_hospital_of_this_machine_has_a_directory_of_its_own(
    settings: StackSettings, tmp_path: Path
) -> None:
    site = settings.site("hospital-1", tmp_path / "data")
    assert site.hospital_home == settings.home / "hospitals" / "hospital-1"
    assert site.data_path == tmp_path / "data"
    assert site.api_url == settings.api_url


def test_a_local_hospital_takes_its_peers_on_first_use_whatever_the_environment_says(
    settings: StackSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDMED_PEERS", "accepted")
    assert settings.site("hospital-1", tmp_path).peers == "first-use"
    assert settings.site("hospital-1", tmp_path, peers=None).peers == "accepted"
    monkeypatch.setenv("FEDMED_PEERS", "first-use")
    assert settings.site("hospital-1", tmp_path, peers=None).peers == "first-use"
    assert settings.site("hospital-1", tmp_path, peers="accepted").peers == "accepted"
