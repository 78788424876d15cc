"""To which addresses a hospital sends its credential."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.hospital.tls import (
    AddressRefused,
    CaFileUnusable,
    PlainHttpRefused,
    Trust,
    require_tls,
    tls_problem,
)


@pytest.mark.parametrize(
    "url",
    [
        *("https://fedmed.example.org", "https://fedmed.example.org:8443/sub", "https://10.0.0.1"),
        *("http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"),
    ],
)
def test_https_and_this_machine_are_spoken_to(url: str) -> None:
    require_tls(url)


@pytest.mark.parametrize(
    "url",
    [
        *("http://fedmed.example.org", "http://10.0.0.1:8000", "http://[2001:db8::1]"),
        *("HTTP://fedmed.example.org", "http://127.0.0.1.example.org", "http://0.0.0.0:8000"),
    ],
)
def test_plain_http_to_another_machine_is_refused_unless_allowed(url: str) -> None:
    with pytest.raises(PlainHttpRefused, match="use its https:// address"):
        require_tls(url)
    require_tls(url, allow_plain_http=True)
    with pytest.raises(PlainHttpRefused):
        Trust().context(url)


@pytest.mark.parametrize("url", ["", "fedmed.example.org", "ftp://fedmed", "https://", "http://[x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused, match="write https://HOST"):
        require_tls(url, allow_plain_http=True)


def test_an_address_with_a_password_is_not_repeated() -> None:
    with pytest.raises(AddressRefused) as refused:
        require_tls("https://user:hunter2@fedmed.example.org")
    assert "hunter2" not in str(refused.value)


def test_the_context_checks_certificate_and_name(authority: Any) -> None:
    for trust in (Trust(), Trust(ca_file=authority.file)):
        context = trust.context("https://fedmed.example.org")
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_named_authority_is_the_only_one(authority: Any) -> None:
    context = Trust(ca_file=authority.file).context("https://fedmed.example.org")
    assert len(context.get_ca_certs()) == 1


def test_a_missing_file_of_an_authority_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(CaFileUnusable, match=r"FEDMED_CA_FILE: .*missing\.pem"):
        Trust(ca_file=tmp_path / "missing.pem").context("https://fedmed.example.org")


def test_prefect_s_client_trusts_the_same_authority() -> None:
    assert Trust().prefect_environment() == {}
    ca = Path("/etc/fedmed/ca.pem")
    assert Trust(ca_file=ca).prefect_environment() == {"PREFECT_API_SSL_CERT_FILE": str(ca)}


def test_what_is_not_about_tls_is_left_to_be_tried_again() -> None:
    lost = httpx.ConnectError("lost")
    lost.__cause__ = ConnectionResetError()
    cut = httpx.ReadError("cut")
    cut.__cause__ = ssl.SSLEOFError(8, "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred")
    assert tls_problem(lost) is None
    assert tls_problem(httpx.ReadTimeout("slow")) is None
    assert tls_problem(cut) is None
