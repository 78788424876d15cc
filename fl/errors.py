"""What can go wrong in ``fl``, one class per cause.

::

    FederationError
    ├── WireError             bytes that are no frame of this version, or values it cannot carry
    ├── ContractViolation     a hospital's table does not fit the data contract
    ├── StrategyError         a strategy that cannot run on sums alone, or is unknown
    ├── ModelError            weights that do not fit their architecture, or a model that cannot run
    ├── RoundError            a round that cannot go on
    ├── PolicyError           a hospital's policy that cannot be read
    └── PolicyViolated        an invitation that a hospital's policy does not allow

Messages name columns, rules and counts; no message ever holds a value taken from a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class FederationError(Exception):
    """Base of all errors of this package."""


class WireError(FederationError, ValueError):
    """Bytes that are not a frame this version reads, or a value that a frame cannot carry."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule of the data contract that a table breaks, free of the table's content.

    Attributes:
        column: the contract's name of the column; empty when the whole table is meant.
        rule: the rule's short name, such as ``missing-column`` or ``out-of-range``.
        count: how many rows break it; 1 when the rule is about the table or the column.
    """

    column: str
    rule: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.column or 'table'}: {self.rule} ({self.count})"


class ContractViolation(FederationError, ValueError):
    """A hospital's table does not fit the data contract.

    Attributes:
        violations: every broken rule, counted; names and counts only, never a row's value.
    """

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations: tuple[Violation, ...] = tuple(violations)
        super().__init__(self.violations)

    def __str__(self) -> str:
        return "; ".join(str(violation) for violation in self.violations)


class StrategyError(FederationError, ValueError):
    """A strategy that cannot run on sums alone, or one that this version does not know."""


class ModelError(FederationError, ValueError):
    """Weights that do not fit their architecture, or a model that cannot be built or run."""


class RoundError(FederationError, RuntimeError):
    """A round that cannot go on: the message says what was missing or wrong."""


class PolicyError(FederationError, ValueError):
    """A hospital's policy that cannot be read: one line that names the field."""


class PolicyViolated(FederationError):
    """An invitation that a hospital's policy does not allow.

    Attributes:
        rule: the rule's short name, such as ``policy-hours``.
        reason: a sentence with the value and what to do.
    """

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"{rule}: {reason}")
        self.rule = rule
        self.reason = reason
