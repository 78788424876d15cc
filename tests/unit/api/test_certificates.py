"""The API's certificate: what is refused at the start, and how a renewed one is taken up."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from api.certificates import Certificate, CertificateUnusable, check_pair


def encrypt(cert: Path, key: Path) -> None:
    read = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        read.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )


BROKEN: dict[str, Callable[[Path, Path], object]] = {
    "server.crt cannot be read (No such file": lambda cert, key: cert.unlink(),
    "server.key cannot be read (No such file": lambda cert, key: key.unlink(),
    "server.crt holds no certificate in PEM": lambda cert, key: cert.write_text("no"),
    "server.key is no private key in PEM": lambda cert, key: key.write_text("no"),
    "server.key has mode 0640, open to others; run chmod 600": lambda cert, key: key.chmod(0o640),
    "server.key is encrypted": encrypt,
}


@pytest.mark.parametrize("told", BROKEN)
def test_what_cannot_be_served_is_one_line(authority: Any, told: str) -> None:
    cert, key = authority.issue()
    BROKEN[told](cert, key)
    with pytest.raises(CertificateUnusable, match=r"^FEDMED_TLS_(CERT|KEY): /") as refused:
        check_pair(cert, key, now=datetime.now(UTC))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_certificate_s_key_is_refused(authority: Any) -> None:
    cert, _ = authority.issue()
    _, other = authority.issue(name="other")
    with pytest.raises(CertificateUnusable, match=r"other\.key is not the key of the first"):
        check_pair(cert, other, now=datetime.now(UTC))


@pytest.mark.parametrize(
    ("days", "told"), [((-3, -1), r"expired on \d{4}-"), ((1, 3), r"is valid from \d{4}-")]
)
def test_a_certificate_of_another_time_is_refused(
    authority: Any, days: tuple[int, int], told: str
) -> None:
    with pytest.raises(CertificateUnusable, match=told):
        check_pair(*authority.issue(days=days), now=datetime.now(UTC))


def test_a_good_pair_says_when_it_expires(authority: Any) -> None:
    expires = check_pair(*authority.issue(days=(-1, 30)), now=datetime.now(UTC))
    assert timedelta(days=29) < expires - datetime.now(UTC) < timedelta(days=31)


def test_a_renewed_certificate_is_taken_up_once(authority: Any) -> None:
    certificate = Certificate(*authority.issue(days=(-1, 2)))
    assert not certificate.refresh()
    authority.issue(days=(-1, 90))
    assert certificate.refresh()
    assert not certificate.refresh()
    assert certificate.expires > datetime.now(UTC) + timedelta(days=80)


def test_half_a_renewal_is_not_served(authority: Any, caplog: pytest.LogCaptureFixture) -> None:
    cert, key = authority.issue(days=(-1, 2))
    certificate = Certificate(cert, key)
    expires = certificate.expires
    new_cert, new_key = authority.issue(days=(-1, 90), name="new")
    os.replace(new_cert, cert)
    assert not certificate.refresh()
    assert "is not the key of the first certificate" in caplog.text
    assert certificate.expires == expires
    os.replace(new_key, key)
    assert certificate.refresh()
    assert certificate.expires > expires


def test_a_chain_is_served_whole(authority: Any) -> None:
    cert, key = authority.issue()
    cert.write_bytes(cert.read_bytes() + authority.file.read_bytes())
    assert len(x509.load_pem_x509_certificates(cert.read_bytes())) == 2
    check_pair(cert, key, now=datetime.now(UTC))
