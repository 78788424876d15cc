"""What a hospital's privacy budget allows: the one place that says yes or no to an entry.

    new = accept(accounts, [reservation], limits)  # what to write; raises BudgetExceeded

A charge inside an open reservation changes no account: it was paid for when the training was
accepted. Only what changes an account, or comes under other limits, is priced again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from privacy.accounts import Accounts
from privacy.errors import BudgetExceeded, ChargeConflict
from privacy.ledger import Charge, Entry, Limits, Release, Reservation

# What the rounding of the accountants may add to a plan that was made to cost exactly the limit.
_ROUNDING: Final = 1e-6


def accept(accounts: Accounts, wanted: Sequence[Entry], limits: Limits) -> tuple[Entry, ...]:
    """Returns those of the wanted entries that are to be written, all or none.

    What is there already is left out, so that asking twice counts once.

    Args:
        accounts: as they stand; they are not changed.
        wanted: reservations and charges to accept under the limits, and releases.
        limits: of the hospital, as they are now.

    Raises:
        BudgetExceeded: a training or a cohort would get beyond its limit.
        ChargeConflict: the attempt of a round was charged before, with something else.
    """
    after, new = accounts.copy(), list[Entry]()
    unpaid = dict[tuple[str, UUID], None]()
    for entry in wanted:
        if after.holds(entry):
            continue
        if isinstance(entry, Release):
            taken: Entry = entry
        else:
            taken = replace(entry, limits=limits)
            if not _is_paid(after, taken):
                unpaid[entry.cohort, entry.training] = None
        after.add(taken)
        new.append(taken)
    for cohort, training in unpaid:
        _require_room(accounts, after, cohort, training, limits)
    return tuple(new)


def replay(entries: Iterable[Entry]) -> Accounts:
    """Returns the accounts of a ledger, having held every entry to the limits it names.

    Raises:
        BudgetExceeded, ChargeConflict: an entry that could not have been accepted; the text begins
            with its place among the entries.
    """
    accounts = Accounts()
    for place, entry in enumerate(entries, start=1):
        try:
            if accounts.holds(entry):
                raise ChargeConflict("it changes nothing: it is there already")
            if isinstance(entry, Release) or entry.limits is None or _is_paid(accounts, entry):
                accounts.add(entry)
            else:
                before = accounts.copy()
                accounts.add(entry)
                _require_room(before, accounts, entry.cohort, entry.training, entry.limits)
        except (BudgetExceeded, ChargeConflict) as error:
            raise type(error)(f"entry {place}: {error}") from None
    return accounts


def _is_paid(accounts: Accounts, entry: Reservation | Charge) -> bool:
    """Whether the account was accepted, under these very limits, with the entry in it."""
    return accounts.covers(entry) and accounts.limits(entry.cohort, entry.training) == {
        entry.limits
    }


def _require_room(
    before: Accounts, after: Accounts, cohort: str, training: UUID, limits: Limits
) -> None:
    delta = limits.delta
    price = after.committed_epsilon(cohort, delta=delta, training=training)
    if price > limits.epsilon_per_training * (1 + _ROUNDING):
        raise BudgetExceeded(
            f"this training would cost epsilon {_up(price)} at delta {delta:g}; "
            f"the hospital allows {limits.epsilon_per_training:g} for one training"
        )
    price = after.committed_epsilon(cohort, delta=delta)
    if price > limits.epsilon_total * (1 + _ROUNDING):
        left = limits.epsilon_total - before.committed_epsilon(cohort, delta=delta)
        raise BudgetExceeded(
            f"cohort {cohort!r} has epsilon {_down(left)} of {limits.epsilon_total:g} left at "
            f"delta {delta:g}; this training would take it to {_up(price)}"
        )


def _up(epsilon: float) -> str:
    return f"{math.ceil(epsilon * 100) / 100:.2f}" if math.isfinite(epsilon) else "infinity"


def _down(epsilon: float) -> str:
    return f"{max(0.0, math.floor(epsilon * 100) / 100):.2f}"
