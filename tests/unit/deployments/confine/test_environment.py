"""The environment of a hospital's process: what is listed stays, everything else goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.confine import CLEAN, allowed_environment, keep_allowed
from deployments.confine.environment import is_allowed
from deployments.stack.services import LEAN_CLIENT, NO_TELEMETRY, ONE_THREAD
from tasks.hospital.site import SiteSettings


@pytest.mark.parametrize(
    "name",
    [
        *("AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY", "PGPASSWORD"),
        *("FEDMED_DATABASE_URL", "PREFECT_SERVER_API_AUTH_STRING", "LD_PRELOAD", "GITHUB_TOKEN"),
        *("PREFECT_CLIENT_CUSTOM_HEADERS", "PREFECT_API_DATABASE_CONNECTION_URL", "HTTPS_PROXY"),
        *("MLFLOW_TRACKING_PASSWORD", "KUBECONFIG", "PYTHONSTARTUP"),
    ],
)
def test_a_secret_or_a_way_to_run_other_code_does_not_stay(name: str) -> None:
    assert allowed_environment({name: "x", "PATH": "/bin"}) == {"PATH": "/bin"}


def test_what_a_hospital_needs_stays() -> None:
    settings = SiteSettings(
        hospital_id="north", hospital_home="/h", data_path="/d", api_url="https://c"
    )
    needed = {**settings.environment(), **NO_TELEMETRY, **LEAN_CLIENT, **ONE_THREAD, **CLEAN}
    needed |= {"LC_ALL": "C.UTF-8", "TZ": "UTC", "TMPDIR": "/t", "SSL_CERT_FILE": "/c.pem"}
    assert allowed_environment(needed) == needed


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=20))
def test_cleaning_twice_changes_nothing_more(environment: dict[str, str]) -> None:
    cleaned = allowed_environment(environment)
    assert allowed_environment(cleaned) == cleaned
    keep_allowed(environment)
    assert environment == cleaned


def test_no_allowed_name_sounds_like_a_secret() -> None:
    from deployments.confine import environment

    # FEDMED_SECRETS names a folder, which a confined process cannot read.
    for name in environment._NAMES - {"FEDMED_SECRETS"}:
        assert not {"AUTH", "KEY", "TOKEN", "PASSWORD", "SECRET"} & set(name.split("_")), name
        assert is_allowed(name)
