from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from api.settings import ApiSettings


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("FEDMED_DATABASE_URL", "postgresql://me:secret@host/fedmed")
    monkeypatch.setenv("FEDMED_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("FEDMED_SECRETS", str(tmp_path / "secrets"))
    return monkeypatch


def test_reads_the_environment(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("FEDMED_API_URL", "https://fedmed.example/")
    environment.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    environment.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    environment.setenv("FEDMED_TOKEN_LIFETIME_S", "60")
    environment.setenv("FEDMED_EPSILON", "3")
    settings = ApiSettings()
    assert settings.secrets == tmp_path / "secrets"
    assert settings.token_url == "https://fedmed.example/oauth/token"
    assert settings.token_issuer == "https://fedmed.example/"
    assert settings.prefect_api_url == "http://prefect:4200/api"
    assert settings.mlflow_url == "http://mlflow:5000"
    assert settings.token_lifetime_s == 60
    assert settings.privacy.request().epsilon == 3


def test_no_secret_is_in_its_text(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PREFECT_API_AUTH_STRING", "admin:hidden")
    text = repr(ApiSettings())
    assert "secret@" not in text
    assert "hidden" not in text


def test_the_issuer_can_be_set(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FEDMED_ISSUER", "consortium")
    assert ApiSettings().token_issuer == "consortium"


def test_reads_lists_as_a_person_writes_them(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FEDMED_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1,")
    environment.setenv("FEDMED_OIDC_ISSUER", "https://login.example/realm")
    environment.setenv("FEDMED_OIDC_AUDIENCE", "fedmed")
    environment.setenv("FEDMED_OIDC_ROLE_MAP", "ops=operator, ml=scientist")
    settings = ApiSettings()
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "192.0.2.1/32"]
    assert settings.oidc is not None
    assert settings.oidc.role_map == {"ops": "operator", "ml": "scientist"}
    assert settings.oidc.roles_claim == "roles"


def test_there_is_no_issuer_and_no_proxy_unless_it_is_set(environment: pytest.MonkeyPatch) -> None:
    settings = ApiSettings()
    assert settings.oidc is None
    assert settings.trusted_proxies == ()
    assert settings.longest_token_lifetime_s == 1800
    assert settings.hospital_token_lifetime_s == 300


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"OIDC_ISSUER": "https://login.example"}, "oidc_audience"),
        ({"OIDC_ISSUER": "http://login.example", "OIDC_AUDIENCE": "fedmed"}, "must be https"),
        ({"OIDC_ISSUER": "http://127.0.0.1:8000", "OIDC_AUDIENCE": "fedmed"}, "this API itself"),
        ({"OIDC_ROLE_MAP": "ops=hospital"}, "oidc_role_map"),
        ({"TRUSTED_PROXIES": "everyone"}, "trusted_proxies"),
    ],
)
def test_settings_that_would_let_strangers_in(
    environment: pytest.MonkeyPatch, changes: dict[str, str], named: str
) -> None:
    for name, value in changes.items():
        environment.setenv(f"FEDMED_{name}", value)
    with pytest.raises(ValidationError, match=named):
        ApiSettings()


def test_bounds_the_wait(environment: pytest.MonkeyPatch) -> None:
    settings = ApiSettings()
    assert [settings.wait_s(asked) for asked in (-1.0, 5.0, 1e9)] == [0.0, 5.0, 30.0]


@pytest.mark.parametrize("missing", ["FEDMED_DATABASE_URL", "FEDMED_ARTIFACTS", "FEDMED_SECRETS"])
def test_what_has_no_default_must_be_given(environment: pytest.MonkeyPatch, missing: str) -> None:
    environment.delenv(missing)
    with pytest.raises(ValidationError, match=missing.removeprefix("FEDMED_").lower()):
        ApiSettings()
