"""The API's own certificate: checked at the start, taken up again when its files are replaced.

certificate = Certificate(cert_file, key_file)
config = uvicorn.Config(app, ssl_context_factory=lambda *_: certificate.context)
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import anyio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from api.auth import secret_files

_log = logging.getLogger(__name__)

RENEW_WITHIN: Final = timedelta(days=14)
_LOOK_S: Final = 5.0


class CertificateUnusable(Exception):
    """The certificate or its key cannot be served; the text names the file and what to do."""


def check_pair(cert: Path, key: Path, *, now: datetime) -> datetime:
    """Checks that a certificate can be served with a key; returns when it expires.

    Raises:
        CertificateUnusable: a file is missing, unreadable or no PEM, the key is open to others or
            of another certificate, or the certificate is not valid now.
    """
    chain = _parsed("FEDMED_TLS_CERT", cert, _read("FEDMED_TLS_CERT", cert))
    secret = _read_key(key)
    try:
        public = load_pem_private_key(secret, None).public_key()
    except TypeError:
        raise CertificateUnusable(
            f"FEDMED_TLS_KEY: {key} is encrypted; decrypt it, its mode 0600 is what guards it"
        ) from None
    except ValueError:
        raise CertificateUnusable(f"FEDMED_TLS_KEY: {key} is no private key in PEM") from None
    own = chain[0]
    if _der(own.public_key()) != _der(public):
        raise CertificateUnusable(
            f"FEDMED_TLS_KEY: {key} is not the key of the first certificate in {cert}"
        )
    if own.not_valid_after_utc <= now:
        raise CertificateUnusable(
            f"FEDMED_TLS_CERT: {cert} expired on {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; "
            "renew it"
        )
    if own.not_valid_before_utc > now:
        raise CertificateUnusable(
            f"FEDMED_TLS_CERT: {cert} is valid from {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC "
            "on; check this machine's clock"
        )
    return own.not_valid_after_utc


def pinned_context(cert: Path) -> ssl.SSLContext:
    """Returns what takes this very certificate for the other side's, whatever name it bears.

    For clients on the same machine, which reach the API under an address of the machine.

    Raises:
        CertificateUnusable: the file is missing, unreadable or no PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    own = _parsed("FEDMED_TLS_CERT", cert, _read("FEDMED_TLS_CERT", cert))[0]
    context.load_verify_locations(cadata=own.public_bytes(Encoding.DER))
    return context


class Certificate:
    """A certificate that is served, and follows its files.

    The context stays the same object; what it serves to new connections is replaced.

    Raises:
        CertificateUnusable: as `check_pair`.
    """

    def __init__(
        self, cert: Path, key: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._cert = cert
        self._key = key
        self._now = now
        self._seen = self._versions()
        self.expires = check_pair(cert, key, now=now())
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.load_cert_chain(cert, key)

    def refresh(self) -> bool:
        """Takes up files that have been replaced; returns whether it has.

        Until both fit together and can be served, the certificate of before is served on.
        """
        found = self._versions()
        if found == self._seen:
            return False
        self._seen = found
        try:
            self.expires = check_pair(self._cert, self._key, now=self._now())
            self.context.load_cert_chain(self._cert, self._key)
        except (CertificateUnusable, OSError) as error:
            _log.warning("the certificate of before is served on: %s", error)
            return False
        _log.warning("took up %s, which expires on %s", self._cert, self.expires.date())
        return True

    async def follow(self) -> None:
        """Looks at the files every few seconds, in the thread that accepts connections."""
        while True:
            await anyio.sleep(_LOOK_S)
            self.refresh()

    def _versions(self) -> tuple[object, ...]:
        return tuple(_version(path) for path in (self._cert, self._key))


def _version(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None  # being replaced
    return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateUnusable(
            f"{setting}: {path} cannot be read ({error.strerror}); give the path of a PEM file "
            "that this user may read"
        ) from None


def _read_key(path: Path) -> bytes:
    _read("FEDMED_TLS_KEY", path)
    try:
        return secret_files.read(path)
    except secret_files.SecretExposed as error:
        raise CertificateUnusable(f"FEDMED_TLS_KEY: {error}") from None


def _parsed(setting: str, path: Path, data: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise CertificateUnusable(f"{setting}: {path} holds no certificate in PEM") from None


def _der(key: object) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return encoded
