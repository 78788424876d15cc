"""The public keys of an OpenID Connect issuer, fetched where its discovery document says.

    keys = IssuerKeys("https://login.example", client=httpx.Client(timeout=5.0))
    key = keys.find(kid, "RS256")

They are read anew every ten minutes, and for a key that is not among them, every thirty seconds at
most. One request at a time waits for the issuer; while it is away, keys serve for twenty minutes.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from api.auth.tokens import TokenRefused

# The family of keys, and the curve, that each algorithm takes: a key of another never meets it.
FAMILIES: Final[Mapping[str, tuple[str, str | None]]] = MappingProxyType(
    {"RS256": ("RSA", None), "PS256": ("RSA", None), "ES256": ("EC", "P-256")}
)
FRESH_FOR_S: Final = 600.0
REFRESH_EVERY_S: Final = 30.0
RETRY_EVERY_S: Final = 5.0
_USED_FOR_S: Final = 2 * FRESH_FOR_S
_LEAST_RSA_BITS: Final = 2048
_LARGEST_DOCUMENT_BYTES: Final = 1024 * 1024

_log = logging.getLogger(__name__)


class IssuerAway(Exception):
    """The issuer's keys cannot be had now; its tokens can be neither admitted nor refused."""


def require_safe_address(address: str) -> None:
    """Refuses an address whose answers others on the way could replace.

    Raises:
        ValueError: it is neither HTTPS nor on this machine.
    """
    parts = urlsplit(address)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname)):
        return
    raise ValueError(f"{address} must be https; http is for this machine alone")


class IssuerKeys:
    """The keys of one issuer.

    Args:
        issuer: its address.
        client: fetches its documents, with a timeout, following no redirects.
        timer: seconds, for how old the keys are.
    """

    def __init__(
        self, issuer: str, *, client: httpx.Client, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._issuer = issuer
        self._client = client
        self._timer = timer
        self._refreshing = threading.Lock()
        self._keys: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
        self._fetched_at = self._tried_at = -math.inf

    def find(self, key_id: str, algorithm: str) -> PyJWK:
        """Returns the key of this id for this algorithm.

        May ask the issuer: not to be called in the event loop.

        Raises:
            TokenRefused: there is no such key, or it is not for this algorithm.
            IssuerAway: the keys cannot be had now.
        """
        if self._is_due(key_id):
            self._refresh_unless_running()
        age_s = self._timer() - self._fetched_at
        described = self._keys.get(key_id) if age_s < _USED_FOR_S else None
        if described is not None:
            return _usable(described, algorithm)
        if self._fetched_at < self._tried_at or self._refreshing.locked():
            raise IssuerAway(f"the keys of {self._issuer} cannot be had now")
        raise TokenRefused("the token names a key that its issuer does not publish")

    def _is_due(self, key_id: str) -> bool:
        now = self._timer()
        if now - self._fetched_at >= FRESH_FOR_S:
            return now - self._tried_at >= RETRY_EVERY_S
        return key_id not in self._keys and now - self._tried_at >= REFRESH_EVERY_S

    def _refresh_unless_running(self) -> None:
        if not self._refreshing.acquire(blocking=False):
            return
        try:
            began = self._tried_at = self._timer()
            self._keys = self._fetch()
            self._fetched_at = began
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            _log.warning("the keys of %s cannot be read: %s", self._issuer, error)
        finally:
            self._refreshing.release()

    def _fetch(self) -> Mapping[str, Mapping[str, Any]]:
        """Raises ValueError, or httpx's errors, when they cannot be had."""
        discovery = self._document(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if discovery.get("issuer") != self._issuer:
            raise ValueError("the discovery document is another issuer's")
        address = discovery.get("jwks_uri")
        if not isinstance(address, str):
            raise ValueError("the discovery document names no jwks_uri")
        require_safe_address(address)
        keys = self._document(address).get("keys")
        if not isinstance(keys, list):
            raise ValueError("the key set holds no keys")
        return MappingProxyType(
            {
                key["kid"]: key
                for key in keys
                if isinstance(key, dict) and isinstance(key.get("kid"), str)
            }
        )

    def _document(self, address: str) -> Mapping[str, Any]:
        body = bytearray()
        with self._client.stream("GET", address) as response:
            response.raise_for_status()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > _LARGEST_DOCUMENT_BYTES:
                    raise ValueError(f"{address} answers with more than a document")
        document = json.loads(body)
        if not isinstance(document, dict):
            raise ValueError(f"{address} answers with no JSON object")
        return document


def _usable(described: Mapping[str, Any], algorithm: str) -> PyJWK:
    """Returns the key when it is for signatures of this very algorithm, and strong enough."""
    is_meant = (
        (described.get("kty"), described.get("crv")) == FAMILIES[algorithm]
        and described.get("alg", algorithm) == algorithm
        and described.get("use", "sig") == "sig"
    )
    if not is_meant:
        raise TokenRefused("the token names a key that is not for its algorithm")
    try:
        key = PyJWK.from_dict(dict(described), algorithm)
    except PyJWTError as error:
        raise TokenRefused("the token names a key that cannot be read") from error
    if isinstance(key.key, rsa.RSAPublicKey) and key.key.key_size >= _LEAST_RSA_BITS:
        return key
    if algorithm == "ES256":
        return key
    raise TokenRefused("the token names a key that is too weak, or not public")


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False
