"""Checks of the way to the coordinator, against a server with a certificate of the test's own."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.x509.oid import NameOID

from deployments.checks.connection import (
    check_clock,
    check_coordinator,
    check_credential,
    check_tls,
)
from deployments.checks.report import Finding, Place


@contextmanager
def serving(
    status: int = 200, *, at: Callable[[], datetime] = lambda: datetime.now(UTC), pem: Path | None
) -> Iterator[str]:
    """A coordinator that answers everything with a status, and says that it is ``at``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            self.send_header("Date", format_datetime(at(), usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            return None

    class Server(HTTPServer):
        def handle_error(self, *_: object) -> None:
            return None  # a client that did not trust it

    server = Server(("127.0.0.1", 0), Handler)
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'http' if pem is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def certificate(folder: Path, *, days: int) -> Path:
    """A certificate of 127.0.0.1 that signs itself, with its key."""
    key, now = generate_private_key(SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "coordinator.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def at(place: Place, url: str, **changes: Any) -> Place:
    settings = place.settings.model_copy(update={"api_url": url, **changes})
    return replace(place, settings=settings, now=lambda: datetime.now(UTC))


def only(findings: Any) -> Finding:
    (finding,) = findings
    return finding


@pytest.mark.parametrize(("days", "state"), [(100, "ok"), (3, "warn")])
def test_a_trusted_certificate(place: Place, tmp_path: Path, days: int, state: str) -> None:
    pem = certificate(tmp_path, days=days)
    with serving(pem=pem) as url:
        found = only(check_tls(at(place, url, ca_file=pem)))
        assert only(check_coordinator(at(place, url, ca_file=pem))).state == "ok"
    assert (found.state, found.text[:7]) == (state, "TLSv1.3")
    assert f"holds {days} days more" in found.text


@pytest.mark.parametrize(("trusted", "days"), [(False, 100), (True, -3)])
def test_a_certificate_that_is_not_trusted_or_has_ended(
    place: Place, tmp_path: Path, trusted: bool, days: int
) -> None:
    pem = certificate(tmp_path, days=days)
    with serving(pem=pem) as url:
        found = only(check_tls(at(place, url, ca_file=pem if trusted else None)))
    assert found.state == "fail"
    assert "is not trusted" in found.text
    assert "--ca-file" in found.text


@pytest.mark.parametrize(
    ("url", "allowed", "state"),
    [
        ("http://127.0.0.1:8000", False, "ok"),
        ("http://fedmed.example.org", False, "fail"),
        ("http://fedmed.example.org", True, "warn"),
        ("https://127.0.0.1:1", False, "fail"),
    ],
)
def test_a_way_without_tls(place: Place, url: str, allowed: bool, state: str) -> None:
    assert only(check_tls(at(place, url, allow_plain_http=allowed))).state == state


@pytest.mark.parametrize(("status", "state"), [(200, "ok"), (503, "fail")])
def test_whether_it_answers(place: Place, status: int, state: str) -> None:
    with serving(status, pem=None) as url:
        assert only(check_coordinator(at(place, url))).state == state


def test_a_coordinator_that_is_away(place: Place) -> None:
    for check in (check_coordinator, check_credential):
        assert only(check(place)).state == "fail"


@pytest.mark.parametrize(
    ("off_s", "state"), [(0, "ok"), (-3, "ok"), (20, "warn"), (-20, "warn"), (200, "fail")]
)
def test_the_clocks(place: Place, off_s: int, state: str) -> None:
    with serving(at=lambda: datetime.now(UTC) + timedelta(seconds=off_s), pem=None) as url:
        assert only(check_clock(at(place, url))).state == state


@pytest.mark.parametrize("status", [400, 401])
def test_a_credential_that_is_not_taken(place: Place, status: int) -> None:
    with serving(status, pem=None) as url:
        found = only(check_credential(at(place, url)))
    assert found.state == "fail"
    assert "the credential is not accepted" in found.text
    assert "s3cret" not in found.text
