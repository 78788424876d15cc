"""Headers that every answer carries, so that a browser does nothing unasked with it."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NO_STORE: Final = "no-store"
# A year, as the preload lists ask; only the host itself, since its siblings are others' business.
_HSTS: Final = "max-age=31536000"
# What the documentation is made of.
_PAGES: Final = ("text/html", "text/css", "text/javascript", "application/javascript", "image/")
# Answers for programs show nothing and load nothing; the documentation pages have scripts.
_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'"


class SecurityHeaders:
    """Middleware that adds them; what a route has set itself stays.

    Args:
        app: the app within.
        https: others reach the API by HTTPS (RFC 6797: never sent otherwise).
    """

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        self._https = https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on and its answer back, with the headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add(MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, with_headers)

    def _add(self, headers: MutableHeaders) -> None:
        for name, value in _ALWAYS.items():
            headers.setdefault(name, value)
        if self._https:
            headers.setdefault("Strict-Transport-Security", _HSTS)
        if not headers.get("content-type", "").startswith(_PAGES):
            # Whatever the API answers is for the one who asked.
            headers.setdefault("Cache-Control", _NO_STORE)
            headers.setdefault("Content-Security-Policy", _NOTHING)
