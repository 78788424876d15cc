"""The way to the coordinator: does it answer, is it who it should be, does it know us."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from deployments.at_hand import exchange_at_hand
from deployments.checks.report import Finding, Place, fail, ok, warn
from fl.addresses import is_loopback
from tasks.hospital.exchange_errors import ExchangeError
from tasks.hospital.site import read_credential
from tasks.hospital.tls import AddressRefused

_TIMEOUT_S: Final = 10.0
_CERTIFICATE_WARNS: Final = timedelta(days=14)
_CLOCK_WARNS_S: Final = 5.0
_CLOCK_FAILS_S: Final = 60.0


def check_coordinator(place: Place) -> Iterator[Finding]:
    """It answers, and its database does."""
    url = place.settings.api_url
    began = time.perf_counter()
    try:
        status = _health(place).status_code
    except httpx.HTTPError as error:
        yield fail(
            f"{url} does not answer ({type(error).__name__}: {error}): check the address, the "
            "firewall for outbound HTTPS, and whether the coordinator runs"
        )
        return
    took_ms = (time.perf_counter() - began) * 1000
    if status == httpx.codes.OK:
        yield ok(f"{url} answers in {took_ms:.0f} ms")
    else:
        yield fail(f"{url}/health answers {status}: tell the coordinator's operator")


def check_tls(place: Place) -> Iterator[Finding]:
    """The certificate is verified, its end is not near; plain HTTP only within this machine."""
    parts = urlsplit(place.settings.api_url)
    host = parts.hostname or ""
    if parts.scheme != "https":
        if is_loopback(host):
            yield ok("plain http, within this machine only")
        elif place.settings.allow_plain_http:
            yield warn("plain http, as was allowed when joining: the way must be protected")
        else:
            yield fail("not encrypted: use the coordinator's https:// address")
        return
    try:
        context = place.settings.trust.context(place.settings.api_url)
    except AddressRefused as error:
        yield fail(str(error))
        return
    try:
        with (
            socket.create_connection((host, parts.port or 443), _TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            version, certificate = secured.version(), secured.getpeercert()
    except ssl.SSLCertVerificationError as error:
        yield fail(
            f"the certificate is not trusted ({error.verify_message}): `fedmed hospital join "
            "--ca-file PEM` names whom to trust instead of the system's list"
        )
        return
    except OSError as error:
        yield fail(f"no TLS connection ({type(error).__name__}: {error})")
        return
    yield _certificate(certificate, version, place.now())


def check_credential(place: Place) -> Iterator[Finding]:
    """The coordinator takes this hospital's credential."""
    settings = place.settings
    credential = read_credential(settings)
    try:
        with exchange_at_hand(settings) as exchange:
            members = len(exchange.roster())
    except (ExchangeError, httpx.HTTPError) as error:
        yield fail(f"{error}: a new join code makes a new one, if the operator says so")
        return
    yield ok(f"{credential.client_id} is taken; rounds may invite {members} hospitals")


def check_clock(place: Place) -> Iterator[Finding]:
    """This machine's clock and the coordinator's agree, or tokens are refused."""
    before = place.now()
    answered = _health(place).headers.get("date")
    after = place.now()
    if answered is None:
        yield warn("the coordinator does not say what time it is")
        return
    # The header has whole seconds: half a one on average is cut off.
    theirs = parsedate_to_datetime(answered) + timedelta(seconds=0.5)
    off_s = abs((before + (after - before) / 2 - theirs).total_seconds())
    if off_s <= _CLOCK_WARNS_S:
        yield ok(f"within {max(off_s, 1):.0f} s of the coordinator's")
    else:
        level = fail if off_s > _CLOCK_FAILS_S else warn
        yield level(f"{off_s:.0f} s off the coordinator's: set it by NTP (`timedatectl`)")


def _certificate(certificate: Any, version: str | None, now: datetime) -> Finding:
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    text = f"{version}, the certificate is trusted and holds {(ends - now).days} days more"
    if ends - now < _CERTIFICATE_WARNS:
        return warn(f"{text}: tell the coordinator's operator")
    return ok(text)


def _health(place: Place) -> httpx.Response:
    with place.settings.way.client(timeout=httpx.Timeout(_TIMEOUT_S)) as client:
        return client.get("/health")
