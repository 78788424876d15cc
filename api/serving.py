"""Where the API listens, under which address others reach it, and what is too unsafe to serve.

    settings = ServingSettings()      # FEDMED_API_HOST, FEDMED_TLS_CERT, FEDMED_PUBLIC_URL, …
    require_safe(settings)            # before anything listens

Passwords and tokens travel in the open over plain HTTP: it stays on this machine unless somebody
has said otherwise.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.settings import Address
from fl.addresses import is_loopback

Port = Annotated[int, Field(ge=1, le=65_535)]
AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().resolve())]
LOOPBACK: Final = "127.0.0.1"
_ANY_ADDRESS: Final = ("0.0.0.0", "::", "")  # noqa: S104 - to recognise it


class ServingUnsafe(Exception):
    """The API must not be served like this; the text names the setting and what to do."""


class ServingSettings(BaseSettings):
    """How the API is served.

    Attributes:
        api_host: address on which it listens.
        api_port: port on which it listens.
        public_url: address under which others reach it; where it listens unless set.
        tls_cert: PEM file of its certificate, with those between it and the authority.
        tls_key: PEM file of the certificate's key, mode 0600.
        allow_plain_http: serves plain HTTP to other machines too.
        behind_proxy: a reverse proxy ends TLS in front of it.
        trusted_proxies: addresses or networks of such proxies, separated by commas; of what they
            say about a client (X-Forwarded-For, -Proto) all is believed.
        access_log: writes a line for each request, without its query string.
    """

    model_config = SettingsConfigDict(
        env_prefix="FEDMED_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        # An error of one setting would show the others, a database's password among them.
        hide_input_in_errors=True,
    )

    api_host: str = LOOPBACK
    api_port: Port = 8000
    public_url: Address | None = None
    tls_cert: AbsolutePath | None = None
    tls_key: AbsolutePath | None = None
    allow_plain_http: bool = False
    behind_proxy: bool = False
    trusted_proxies: str = LOOPBACK
    access_log: bool = False

    @property
    def tls(self) -> tuple[Path, Path] | None:
        """The certificate and its key, when the API itself speaks TLS."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return self.tls_cert, self.tls_key

    @property
    def local_api_url(self) -> str:
        """Address of the API on this machine."""
        host = LOOPBACK if self.api_host in _ANY_ADDRESS else self.api_host
        return f"{'http' if self.tls is None else 'https'}://{_in_url(host)}:{self.api_port}"

    @property
    def api_url(self) -> str:
        """Address under which others reach the API."""
        return (self.public_url or self.local_api_url).rstrip("/")

    @property
    def proxies(self) -> list[str]:
        """The trusted proxies, one by one."""
        return [part.strip() for part in self.trusted_proxies.split(",") if part.strip()]

    def serving_environment(self) -> dict[str, str]:
        """Returns the variables from which the API's process reads the same settings."""
        return {
            "FEDMED_API_HOST": self.api_host,
            "FEDMED_API_PORT": str(self.api_port),
            "FEDMED_PUBLIC_URL": self.public_url or "",
            "FEDMED_TLS_CERT": str(self.tls_cert or ""),
            "FEDMED_TLS_KEY": str(self.tls_key or ""),
            "FEDMED_ALLOW_PLAIN_HTTP": str(self.allow_plain_http),
            "FEDMED_BEHIND_PROXY": str(self.behind_proxy),
            "FEDMED_TRUSTED_PROXIES": self.trusted_proxies,
            "FEDMED_ACCESS_LOG": str(self.access_log),
        }


def require_safe(settings: ServingSettings) -> None:
    """Refuses settings under which secrets would travel in the open or nobody could connect.

    Raises:
        ServingUnsafe: the first thing that is wrong.
    """
    if (settings.tls_cert is None) != (settings.tls_key is None):
        missing = "FEDMED_TLS_KEY" if settings.tls_key is None else "FEDMED_TLS_CERT"
        raise ServingUnsafe(f"{missing} is not set; a certificate and its key go together")
    public = urlsplit(settings.api_url)
    if settings.behind_proxy:
        _require_proxy(settings, public.scheme)
        return
    if settings.api_host in _ANY_ADDRESS and settings.public_url is None:
        raise ServingUnsafe(
            f"FEDMED_API_HOST={settings.api_host} listens on every address of this machine; "
            "FEDMED_PUBLIC_URL says under which of them others reach it"
        )
    if settings.tls is not None:
        if public.scheme != "https":
            raise ServingUnsafe(
                f"FEDMED_PUBLIC_URL={settings.api_url} is not https://, but FEDMED_TLS_CERT is set"
            )
        return
    if public.scheme == "https":
        raise ServingUnsafe(
            f"FEDMED_PUBLIC_URL={settings.api_url} is https://, but FEDMED_TLS_CERT and "
            "FEDMED_TLS_KEY are not set; behind a proxy that ends TLS set FEDMED_BEHIND_PROXY=true"
        )
    if serves_plainly(settings) and not settings.allow_plain_http:
        raise ServingUnsafe(
            f"plain HTTP on {settings.api_host} ({settings.api_url}) would show passwords and "
            "tokens to anyone on the way; set FEDMED_TLS_CERT and FEDMED_TLS_KEY, or "
            "FEDMED_BEHIND_PROXY=true behind a proxy that ends TLS, or "
            "FEDMED_ALLOW_PLAIN_HTTP=true to try things out"
        )


def serves_plainly(settings: ServingSettings) -> bool:
    """Whether plain HTTP leaves this machine."""
    if settings.tls is not None or settings.behind_proxy:
        return False
    public_host = urlsplit(settings.api_url).hostname or ""
    return not (is_loopback(settings.api_host) and is_loopback(public_host))


def _require_proxy(settings: ServingSettings, public_scheme: str) -> None:
    if settings.public_url is None or public_scheme != "https":
        raise ServingUnsafe(
            "FEDMED_BEHIND_PROXY=true needs FEDMED_PUBLIC_URL, the proxy's own https:// address"
        )
    if not settings.proxies:
        raise ServingUnsafe("FEDMED_TRUSTED_PROXIES names no proxy")
    for proxy in settings.proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise ServingUnsafe(
                f"FEDMED_TRUSTED_PROXIES: {proxy!r} is no address and no network such as 10.0.0.0/8"
            ) from None


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
