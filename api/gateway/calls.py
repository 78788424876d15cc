"""The table of what a hospital may call; whatever is not in it is refused and goes nowhere.

    call, values = match("GET", "/flow_runs/0b5c…")      # (Call, {"id": "0b5c…"}), or None

Paths are compared as they arrived, undecoded, with exact patterns: a percent sign, a dot segment, a
doubled slash or an upper-case id fits none of them, so that there is nothing to normalise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

KIB: Final = 1024
MAX_FRAME_BYTES: Final = 64 * KIB
"""Largest event on the websocket."""

EVENTS_PATH: Final = "/events/in"
"""The one websocket."""

Name = Literal[
    "read-pool",
    "get-runs",
    "heartbeat",
    "read-deployment",
    "read-flow",
    "read-run",
    "update-run",
    "label-run",
    "set-state",
    "write-logs",
    "version",
    "csrf-token",
    "health",
]

_PATTERNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "{pool}": r"(?P<pool>[a-z0-9][a-z0-9-]{0,80})",
        "{id}": r"(?P<id>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})",
    }
)


def _pattern(template: str) -> re.Pattern[str]:
    parts = [_PATTERNS.get(part, re.escape(part)) for part in template.split("/")]
    return re.compile("/".join(parts), re.ASCII)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that a hospital may make.

    Attributes:
        method: the HTTP method.
        template: the path below ``/prefect/api``.
        name: whose rules apply, see ``api.gateway.handlers``.
        max_body: most bytes of its body; 0 when it takes none, and then none is read.
    """

    method: str
    template: str
    name: Name
    max_body: int = 0
    pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", _pattern(self.template))


CALLS: Final = (
    Call("GET", "/health", "health"),
    Call("GET", "/admin/version", "version"),
    Call("GET", "/csrf-token", "csrf-token"),
    Call("GET", "/work_pools/{pool}", "read-pool"),
    Call("POST", "/work_pools/{pool}/get_scheduled_flow_runs", "get-runs", 4 * KIB),
    Call("POST", "/work_pools/{pool}/workers/heartbeat", "heartbeat", 64 * KIB),
    Call("GET", "/deployments/{id}", "read-deployment"),
    Call("GET", "/flows/{id}", "read-flow"),
    Call("GET", "/flow_runs/{id}", "read-run"),
    Call("PATCH", "/flow_runs/{id}", "update-run", 4 * KIB),
    Call("PATCH", "/flow_runs/{id}/labels", "label-run", 16 * KIB),
    Call("POST", "/flow_runs/{id}/set_state", "set-state", 64 * KIB),
    Call("POST", "/logs/", "write-logs", 1024 * KIB),
)


def match(method: str, path: str) -> tuple[Call, dict[str, str]] | None:
    """Returns the call that this is, with the values in its path; None when it is none."""
    for call in CALLS:
        if call.method == method and (found := call.pattern.fullmatch(path)):
            return call, found.groupdict()
    return None


def largest_body(path: str) -> int | None:
    """Returns the most bytes that a call of this path takes; None when the path is no call's."""
    sizes = [call.max_body for call in CALLS if call.pattern.fullmatch(path)]
    return max(sizes, default=0) or None


_FIRST_PART: Final = re.compile(r"/([a-z_]{1,40})(?:/|\Z)", re.ASCII)


def loggable(path: str) -> str:
    """Returns what of a refused path may stand in a log: its first part, when it looks like one.

    >>> loggable("/block_documents/filter"), loggable("/%2e%2e/x")
    ('/block_documents/…', '…')
    """
    found = _FIRST_PART.match(path)
    return f"/{found[1]}/…" if found else "…"
