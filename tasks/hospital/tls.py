"""What a hospital checks before it speaks to the coordinator, and how it says what went wrong.

    trust = Trust(ca_file=Path("consortium-ca.pem"))
    client = httpx.Client(base_url=url, verify=trust.context(url))

Every client of the hospital's takes its TLS context from here. An answer without TLS could come
from anyone on the way, and the credential would go to them.

::

    AddressRefused        nothing is sent to this address
    ├── PlainHttpRefused  it is plain HTTP and leaves this machine
    └── CaFileUnusable    the file of the authority cannot be used
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fl.addresses import is_loopback

# Of OpenSSL's x509_vfy.h; the others have a text that says enough.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_NAME: Final = (62, 64)
_NO_AUTHORITY: Final = (18, 19, 20, 21)
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")


class AddressRefused(Exception):
    """Nothing is sent to this address; the text says why and what to do."""


class PlainHttpRefused(AddressRefused):
    """The address is plain HTTP and leaves this machine."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"http://{host} is not encrypted: anyone on the way could read the credential; use its "
            "https:// address, or set FEDMED_ALLOW_PLAIN_HTTP=true to try things out"
        )


class CaFileUnusable(AddressRefused):
    """The file of the authority's certificate cannot be used."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a hospital takes for its coordinator.

    Attributes:
        ca_file: PEM file with the authority that signs the coordinator's certificate; the
            machine's own authorities when there is none.
        allow_plain_http: speaks plain HTTP to another machine too.
    """

    ca_file: Path | None = None
    allow_plain_http: bool = False

    def context(self, url: str) -> ssl.SSLContext:
        """Returns what checks the server's certificate and name, TLS 1.2 or later.

        Raises:
            AddressRefused: the address is plain HTTP off this machine, or no HTTP address, or the
                authority's file cannot be used.
        """
        require_tls(url, allow_plain_http=self.allow_plain_http)
        if urlsplit(url).scheme != "https":
            # Loading certificates takes a while and nothing would ask for them.
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise CaFileUnusable(
                f"FEDMED_CA_FILE: {self.ca_file} holds no certificate that can be read "
                f"({error.strerror or error}); give a PEM file from the coordinator's operator, "
                "there or as --ca-file"
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def prefect_environment(self) -> dict[str, str]:
        """Returns what makes Prefect's client, HTTP and websocket, trust the same authority."""
        return {} if self.ca_file is None else {"PREFECT_API_SSL_CERT_FILE": str(self.ca_file)}


def require_tls(url: str, *, allow_plain_http: bool = False) -> None:
    """Refuses an address to which a credential must not be sent.

    Raises:
        AddressRefused: not an HTTP address.
        PlainHttpRefused: plain HTTP to another machine, unless allowed.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if "@" in url:
        raise AddressRefused("the coordinator's address holds no user or password: leave it out")
    if parts.scheme not in ("http", "https") or not host:
        raise AddressRefused(f"{url!r} is no address of a coordinator; write https://HOST")
    if parts.scheme == "http" and not allow_plain_http and not is_loopback(host):
        raise PlainHttpRefused(parts.netloc)


def tls_problem(error: BaseException) -> str | None:
    """Returns what is wrong with the other side's TLS; None when the error is about something else.

    A client of HTTP wraps the error of the handshake once or twice.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if cause is None or isinstance(cause, ssl.SSLEOFError):
        return None  # a connection that was cut is worth another try
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _certificate_problem(cause)
    reason = getattr(cause, "reason", None) or "no reason given"
    if reason in _NO_TLS:
        return "it answers without TLS: what listens there serves plain HTTP"
    return f"TLS failed ({reason})"


def _certificate_problem(error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "its certificate has expired; the coordinator's operator must renew it"
    if code == _NOT_YET_VALID:
        return "its certificate is not valid yet; check this machine's clock"
    if code in _OTHER_NAME:
        return "its certificate is for another host name; use the address that it names"
    if code in _NO_AUTHORITY:
        return (
            "its certificate is from an authority that is not trusted here; FEDMED_CA_FILE names "
            "a PEM file with the authority's certificate"
        )
    return f"its certificate is not accepted ({error.verify_message})"
