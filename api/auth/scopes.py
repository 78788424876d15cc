"""Scopes, and which of them a role may have.

>>> sorted(SCOPES_OF_ROLE["compliance"])
['audit:read', 'metrics:read', 'training:read']
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

HOSPITALS_WRITE: Final = "hospitals:write"
MODELS_WRITE: Final = "models:write"
TRAINING_START: Final = "training:start"
TRAINING_READ: Final = "training:read"
METRICS_READ: Final = "metrics:read"
AUDIT_READ: Final = "audit:read"
USERS_WRITE: Final = "users:write"
EXCHANGE: Final = "exchange"

SCOPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        HOSPITALS_WRITE: "Add hospitals.",
        MODELS_WRITE: "Register models.",
        TRAINING_START: "Start trainings.",
        TRAINING_READ: "Read hospitals, models, trainings and their rounds.",
        METRICS_READ: "Read the metrics of a model.",
        AUDIT_READ: "Read the audit record.",
        USERS_WRITE: "Add, suspend and list the people who may sign in.",
        EXCHANGE: "Take part in rounds; hospitals only.",
    }
)

HOSPITAL: Final = "hospital"
SCOPES_OF_ROLE: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "operator": frozenset(SCOPES) - {EXCHANGE},
        "scientist": frozenset({MODELS_WRITE, TRAINING_START, TRAINING_READ, METRICS_READ}),
        "compliance": frozenset({TRAINING_READ, METRICS_READ, AUDIT_READ}),
        HOSPITAL: frozenset({EXCHANGE}),
    }
)


class ScopeRefused(ValueError):
    """A scope that does not exist or that the role may not have."""


def narrow(role: str, asked: str | None) -> frozenset[str]:
    """Returns the scopes a token gets: all of the role's, or those asked for (RFC 6749, 3.3).

    Raises:
        ScopeRefused: a scope was asked for that the role does not have.
    """
    allowed = SCOPES_OF_ROLE[role]
    if not asked or not asked.split():
        return allowed
    wanted = frozenset(asked.split())
    if not wanted <= allowed:
        raise ScopeRefused(f"the role {role} may have: {' '.join(sorted(allowed))}")
    return wanted
