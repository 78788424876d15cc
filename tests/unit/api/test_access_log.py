"""Lines of requests show what was asked for, never a query string."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from api.serve import configuration
from api.serving import ServingSettings

LOGGERS = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.access", "uvicorn.error")]
# As uvicorn writes them.
REQUEST = '%s - "%s %s HTTP/%s" %d'
ACCEPTED = '%s - "WebSocket %s" [accepted]'
REFUSED = '%s - "WebSocket %s" %d'


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    before = [(x.level, x.handlers[:], x.filters[:], x.propagate) for x in LOGGERS]
    yield
    for logger, (level, handlers, filters, propagates) in zip(LOGGERS, before, strict=True):
        logger.setLevel(level)
        logger.handlers, logger.filters, logger.propagate = handlers, filters, propagates


@pytest.fixture
def lines() -> list[str]:
    """What the loggers have written."""
    configuration(ServingSettings(access_log=True), None)
    written: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: written.append(record.getMessage())  # type: ignore[method-assign]
    for logger in LOGGERS[1:]:
        logger.addHandler(handler)
    return written


def test_a_line_holds_the_path_without_its_query(lines: list[str]) -> None:
    access, sockets = LOGGERS[1:]
    access.info(REQUEST, "10.0.0.1:7", "GET", "/models?token=sesame", "1.1", 200)
    sockets.info(ACCEPTED, "10.0.0.1:7", "/prefect/api/events/in?token=sesame")
    sockets.info(REFUSED, "10.0.0.1:7", "/prefect/api/events/in?token=sesame", 403)
    assert lines == [
        '10.0.0.1:7 - "GET /models HTTP/1.1" 200',
        '10.0.0.1:7 - "WebSocket /prefect/api/events/in" [accepted]',
        '10.0.0.1:7 - "WebSocket /prefect/api/events/in" 403',
    ]


def test_of_uvicorn_s_own_messages_warnings_alone_are_there(lines: list[str]) -> None:
    access, sockets = LOGGERS[1:]
    sockets.info("connection open")
    access.info("a line of another shape: /models?token=sesame")
    sockets.warning("Invalid HTTP request received.")
    assert lines == ["Invalid HTTP request received."]


def test_it_is_off_unless_asked_for() -> None:
    configuration(ServingSettings(), None)
    access, sockets = LOGGERS[1:]
    assert access.handlers == []
    assert not access.propagate
    assert not sockets.isEnabledFor(logging.INFO)
