"""Which states a hospital may set, and from which: its part of Prefect's rules.

A run goes forward and ends. Nothing leaves a terminal state, nothing is scheduled or paused again,
and only the coordinator asks for a cancellation.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TERMINAL: Final = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})

NAMES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "PENDING": frozenset({"Pending", "Submitting", "InfrastructurePending", "NotReady"}),
        "RUNNING": frozenset({"Running", "Retrying"}),
        "COMPLETED": frozenset({"Completed"}),
        "FAILED": frozenset({"Failed", "TimedOut"}),
        "CRASHED": frozenset({"Crashed"}),
        "CANCELLED": frozenset({"Cancelled"}),
    }
)
"""The types that a hospital may set, each with the names that Prefect's worker and engine use."""

# A state to itself is what a client sends again after a lost answer; Prefect knows it by its
# transition id.
_NEXT: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "SCHEDULED": frozenset({"PENDING", "RUNNING", "FAILED", "CRASHED", "CANCELLED"}),
        "PENDING": frozenset({"PENDING", "RUNNING", "FAILED", "CRASHED", "CANCELLED"}),
        "RUNNING": frozenset({"RUNNING", *TERMINAL}),
        "CANCELLING": TERMINAL,
    }
)


def may_set(state_type: str, name: str | None) -> bool:
    """Whether a hospital may set states of this type and name at all.

    >>> may_set("RUNNING", None), may_set("SCHEDULED", None), may_set("RUNNING", "Late")
    (True, False, False)
    """
    names = NAMES.get(state_type)
    return names is not None and (name is None or name in names)


def may_go(present: str | None, proposed: str) -> bool:
    """Whether a hospital may take a run from one type of state to another.

    >>> may_go("RUNNING", "COMPLETED"), may_go("COMPLETED", "RUNNING"), may_go(None, "RUNNING")
    (True, False, False)
    """
    return present is not None and proposed in _NEXT.get(present, frozenset())
