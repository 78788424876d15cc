"""How the API may be served: never so that secrets travel in the open unless somebody says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from api.serve import BACKLOG, KEEP_ALIVE_S, configuration
from api.serving import ServingSettings, ServingUnsafe, require_safe, serves_plainly
from api.settings import ApiSettings

PUBLIC = "https://fedmed.example.org"
TLS = {"tls_cert": Path("/c.pem"), "tls_key": Path("/k.pem")}
PROXY = {"behind_proxy": True, "public_url": PUBLIC}


def serving(**given: Any) -> ServingSettings:
    return ServingSettings(**given)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"api_host": "::1"},
        {"api_host": "localhost"},
        {"api_host": "10.0.0.5", **TLS},
        {"api_host": "0.0.0.0", "public_url": PUBLIC, **TLS},
        {"api_host": "10.0.0.5", "allow_plain_http": True},
        {"public_url": "http://fedmed.example.org", "allow_plain_http": True},
        PROXY,
        {"api_host": "10.0.0.5", "trusted_proxies": "10.0.0.1, 10.1.0.0/16, ::1", **PROXY},
        {**PROXY, **TLS},
    ],
)
def test_what_may_be_served(given: dict[str, Any]) -> None:
    require_safe(serving(**given))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"api_host": "10.0.0.5"}, "plain HTTP on 10.0.0.5"),
        ({"api_host": "fedmed.internal"}, "plain HTTP on fedmed.internal"),
        ({"public_url": "http://fedmed.example.org"}, "plain HTTP on 127.0.0.1"),
        ({"api_host": "0.0.0.0"}, "FEDMED_PUBLIC_URL says under which"),
        ({"api_host": "::", **TLS}, "FEDMED_PUBLIC_URL says under which"),
        ({"api_host": "0.0.0.0", "allow_plain_http": True}, "FEDMED_PUBLIC_URL says under which"),
        ({"tls_cert": Path("/c.pem")}, "FEDMED_TLS_KEY is not set"),
        ({"tls_key": Path("/k.pem")}, "FEDMED_TLS_CERT is not set"),
        ({"public_url": "http://fedmed.example.org", **TLS}, "is not https://"),
        ({"public_url": PUBLIC}, "set FEDMED_BEHIND_PROXY=true"),
        ({"behind_proxy": True}, "needs FEDMED_PUBLIC_URL"),
        ({"behind_proxy": True, "public_url": "http://x.example.org"}, "needs FEDMED_PUBLIC_URL"),
        ({"trusted_proxies": " , ", **PROXY}, "names no proxy"),
        ({"trusted_proxies": "proxy.internal", **PROXY}, "'proxy.internal' is no address"),
        ({"trusted_proxies": "*", **PROXY}, "'*' is no address"),
    ],
)
def test_what_is_refused_with_what_to_do(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ServingUnsafe, match=r"FEDMED_") as refused:
        require_safe(serving(**given))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "public", "local"),
    [
        ({}, "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        (TLS, "https://127.0.0.1:8000", "https://127.0.0.1:8000"),
        ({"api_host": "::1", **TLS}, "https://[::1]:8000", "https://[::1]:8000"),
        (
            {"api_host": "0.0.0.0", "api_port": 443, "public_url": f"{PUBLIC}/", **TLS},
            PUBLIC,
            "https://127.0.0.1:443",
        ),
        (PROXY, PUBLIC, "http://127.0.0.1:8000"),
    ],
)
def test_the_public_address_and_the_one_on_this_machine(
    given: dict[str, Any], public: str, local: str
) -> None:
    settings = serving(**given)
    assert (settings.api_url, settings.local_api_url) == (public, local)


def test_plain_http_to_others_is_told_of() -> None:
    assert serves_plainly(serving(api_host="10.0.0.5", allow_plain_http=True))
    assert not serves_plainly(serving(allow_plain_http=True))
    assert not serves_plainly(serving(api_host="10.0.0.5", **TLS))


def test_the_api_s_process_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ({}, {"api_host": "10.0.0.5", "trusted_proxies": "10.0.0.1", **PROXY, **TLS}):
        settings = serving(**given)
        for name, value in settings.serving_environment().items():
            monkeypatch.setenv(name, value)
        assert ServingSettings() == settings


def test_the_api_believes_a_forwarded_address_behind_a_proxy_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEDMED_DATABASE_URL", "postgresql://fedmed@db.example.org/fedmed")
    monkeypatch.setenv("FEDMED_ARTIFACTS", str(tmp_path))
    believed = {}
    for name, settings in {"alone": serving(), "behind": serving(**PROXY)}.items():
        for variable, value in settings.serving_environment().items():
            monkeypatch.setenv(variable, value)
        believed[name] = [str(network) for network in ApiSettings(secrets=tmp_path).trusted_proxies]
    assert believed == {"alone": [], "behind": ["127.0.0.1/32"]}


def test_an_error_of_one_setting_shows_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMED_API_PORT", "hunter2")
    with pytest.raises(ValidationError) as refused:
        ServingSettings()
    assert "hunter2" not in str(refused.value)


def test_headers_of_a_proxy_count_behind_one_alone() -> None:
    """The library's own default believes every client on the same machine."""
    plain = configuration(serving(), None)
    assert plain.proxy_headers is False
    behind = configuration(serving(trusted_proxies="10.0.0.1,10.1.0.0/16", **PROXY), None)
    assert behind.proxy_headers is True
    assert behind.forwarded_allow_ips == ["10.0.0.1", "10.1.0.0/16"]


def test_connections_outlive_a_long_poll_and_no_request_is_logged() -> None:
    config = configuration(serving(), None)
    assert config.timeout_keep_alive == KEEP_ALIVE_S >= 75
    assert config.backlog == BACKLOG >= 2048
    assert config.ws_max_size == 65_536
    assert config.ws_ping_interval == 60
    assert config.access_log is False
    assert config.server_header is False
