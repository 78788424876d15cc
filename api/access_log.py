"""The access log: a line for each request, with its method, path and status and nothing else of it.

    config = uvicorn.Config(…, access_log=True, log_level="warning")
    log_requests()                        # after it, which sets the levels of uvicorn's loggers

A query string may hold a code or a token that was sent by mistake: it is left out.
"""

from __future__ import annotations

import logging
from typing import Final

_REQUESTS: Final = "uvicorn.access"
# uvicorn writes the handshakes of websockets among its own messages.
_SOCKETS: Final = "uvicorn.error"
_HANDSHAKE: Final = '%s - "WebSocket %s" '


def log_requests() -> None:
    """Has uvicorn log requests and handshakes, and of its own messages warnings alone."""
    for name, shorten in ((_REQUESTS, _without_query), (_SOCKETS, _handshakes_without_query)):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if shorten not in logger.filters:
            logger.addFilter(shorten)


def _without_query(record: logging.LogRecord) -> bool:
    """Shortens the path among the arguments: client, method, path, version, status."""
    if isinstance(record.args, tuple) and len(record.args) == 5:
        client, method, path, *rest = record.args
        record.args = (client, method, _path(path), *rest)
        return True
    return False  # a line of another shape may hold anything


def _handshakes_without_query(record: logging.LogRecord) -> bool:
    """Shortens the path among the arguments: client, path, and a status when it was refused."""
    if record.levelno >= logging.WARNING:
        return True
    if isinstance(record.args, tuple) and str(record.msg).startswith(_HANDSHAKE):
        client, path, *rest = record.args
        record.args = (client, _path(path), *rest)
        return True
    return False


def _path(asked: object) -> str:
    return str(asked).partition("?")[0]
