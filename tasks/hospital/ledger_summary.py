"""The ledger as a person reads it: epsilon spent, reserved and left.

summary = summarise(ledger.accounts(), limits)
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from privacy.accounts import Accounts
from privacy.ledger import Limits


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What one training has cost a cohort.

    Attributes:
        rounds: attempts of rounds that were charged.
        spent: epsilon of what was charged.
        reserved: epsilon beyond that, of what the open reservation may still take.
    """

    training: UUID
    rounds: int
    spent: float
    reserved: float
    is_open: bool


@dataclass(frozen=True, slots=True)
class CohortSummary:
    """What all trainings have cost a cohort; ``left`` is never below zero."""

    name: str
    trainings: tuple[TrainingSummary, ...]
    spent: float
    reserved: float
    left: float
    tables: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """All cohorts, beside the limits as they are now."""

    limits: Limits
    cohorts: tuple[CohortSummary, ...]

    def as_json(self) -> dict[str, Any]:
        """Returns the summary as plain JSON."""
        value = asdict(self)
        for cohort in value["cohorts"]:
            for row in cohort["trainings"]:
                row["training"] = str(row["training"])
        return value


def summarise(accounts: Accounts, limits: Limits) -> LedgerSummary:
    """Returns the accounts, priced at the delta of the limits."""
    cohorts = tuple(_cohort(accounts, name, limits) for name in accounts.cohorts)
    return LedgerSummary(limits, cohorts)


def _cohort(accounts: Accounts, name: str, limits: Limits) -> CohortSummary:
    delta = limits.delta
    attempts = defaultdict[UUID, set[UUID]](set)
    for charge in accounts.charges:
        if charge.cohort == name:
            attempts[charge.training].add(charge.round_id)
    rows = []
    for training in accounts.trainings(name):
        spent = accounts.spent_epsilon(name, delta=delta, training=training)
        committed = accounts.committed_epsilon(name, delta=delta, training=training)
        is_open = accounts.is_open(training)
        row = TrainingSummary(training, len(attempts[training]), spent, committed - spent, is_open)
        rows.append(row)
    spent = accounts.spent_epsilon(name, delta=delta)
    committed = accounts.committed_epsilon(name, delta=delta)
    return CohortSummary(
        name=name,
        trainings=tuple(rows),
        spent=spent,
        reserved=committed - spent,
        left=max(0.0, limits.epsilon_total - committed),
        tables=len(accounts.fingerprints(name)),
        notes=tuple(_notes(accounts, name)),
    )


def _notes(accounts: Accounts, name: str) -> list[str]:
    """What a person should know of the account besides its figures."""
    notes = []
    if (splits := accounts.splits(name)) > 1:
        notes.append(
            f"{splits} split keys: rows may have changed sides, so what was trained on and what "
            "was held out add up"
        )
    mine = set(accounts.fingerprints(name))
    for other in accounts.cohorts:
        if other != name and mine & set(accounts.fingerprints(other)):
            notes.append(f"cohort {other!r} has had the same table: its patients lose both")
    return notes
