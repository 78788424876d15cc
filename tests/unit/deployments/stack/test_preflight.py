"""What is checked before the stack starts anything."""

from __future__ import annotations

from typing import Any

import pytest

from api.certificates import CertificateUnusable
from api.serving import ServingUnsafe
from deployments.errors import OperatorError
from deployments.settings import StackSettings
from deployments.stack.preflight import check_serving


def changed(settings: StackSettings, **changes: Any) -> StackSettings:
    return settings.model_copy(update=changes)


def test_the_default_warns_of_nothing(settings: StackSettings) -> None:
    assert check_serving(settings) == []


def test_plain_http_to_others_is_refused_or_warned_of(settings: StackSettings) -> None:
    open_to_others = changed(settings, api_host="10.0.0.5")
    with pytest.raises(ServingUnsafe, match=r"plain HTTP on 10\.0\.0\.5"):
        check_serving(open_to_others)
    (warning,) = check_serving(changed(open_to_others, allow_plain_http=True))
    assert warning.startswith("FEDMED_ALLOW_PLAIN_HTTP: http://10.0.0.5:8000 is not encrypted")


def test_a_certificate_about_to_expire_is_warned_of(
    settings: StackSettings, authority: Any
) -> None:
    for days, warned in ((30, False), (13, True)):
        cert, key = authority.issue(days=(-1, days))
        warnings = check_serving(changed(settings, tls_cert=cert, tls_key=key))
        assert [w.startswith(f"FEDMED_TLS_CERT: {cert} expires on") for w in warnings] == (
            [True] if warned else []
        )


def test_an_expired_certificate_ends_the_start(settings: StackSettings, authority: Any) -> None:
    cert, key = authority.issue(days=(-3, -1))
    with pytest.raises(CertificateUnusable, match="expired on"):
        check_serving(changed(settings, tls_cert=cert, tls_key=key))


def test_a_database_address_with_a_mistake_is_not_repeated(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("mysql://u:hunter2@db/fedmed", "postgresql//u:hunter2@db/fedmed"):
        monkeypatch.setenv("FEDMED_DATABASE_URL", url)
        with pytest.raises(OperatorError, match=r"^FEDMED_DATABASE_URL: ") as refused:
            check_serving(StackSettings())
        assert "hunter2" not in str(refused.value)


def test_no_setting_shows_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMED_DATABASE_URL", "postgresql://u:hunter2@db/fedmed")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:hunter2")
    assert "hunter2" not in repr(StackSettings())
