"""A hospital's privacy accounts: from the ledger's entries to what each cohort has lost.

    accounts = Accounts(entries)
    accounts.committed_epsilon("all", delta=1e-5)

The account of a cohort is what its patients have lost to all trainings, with what open reservations
still may take. Trainings are chosen knowing the results of those before, so their sum is priced by
a filter that allows that (``privacy.accounting.adaptive_epsilon``). Rows trained on and rows held
out are different rows: the account is the larger of both (parallel composition, McSherry 2009,
theorem 4), and the composition of both once a split key has been replaced.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self, TypeAlias
from uuid import UUID

from privacy.errors import ChargeConflict
from privacy.ledger import PARTS, Charge, Entry, Limits, Part, Release, Reservation
from privacy.mechanisms import Composed, Mechanism, Repeated

Bag: TypeAlias = Counter[Mechanism]
"""Mechanisms by how often each was applied. Their order has no influence on the price."""


def folded(mechanism: Mechanism) -> Bag:
    """Returns the single mechanisms of which one consists, each with its count.

    >>> from privacy.mechanisms import Gaussian
    >>> folded(Repeated(Repeated(Gaussian(2.0), 3), 2))
    Counter({Gaussian(noise_multiplier=2.0): 6})
    """
    match mechanism:
        case Repeated(part, count):
            return Counter({m: n * count for m, n in folded(part).items() if n * count})
        case Composed(parts):
            return sum((folded(part) for part in parts), Counter())
        case _:
            return Counter({mechanism: 1})


@dataclass(slots=True)
class _Use:
    """What one training has reserved and used of one cohort, by part."""

    reserved: dict[Part, Bag] = field(default_factory=dict)
    spent: dict[Part, Bag] = field(default_factory=dict)
    is_open: bool = False
    limits: Limits | None = None

    def copy(self) -> _Use:
        return _Use(_copied(self.reserved), _copied(self.spent), self.is_open, self.limits)

    def committed(self, part: Part) -> Bag:
        """What it has spent, with the unused remainder of an open reservation."""
        spent = self.spent.get(part, Counter())
        return spent | self.reserved.get(part, Counter()) if self.is_open else spent

    @property
    def is_within_plan(self) -> bool:
        return bool(self.reserved) and all(
            self.spent.get(part, Counter()) <= self.reserved.get(part, Counter()) for part in PARTS
        )


class Accounts:
    """The accounts of a hospital's cohorts; they grow entry by entry.

    Args:
        entries: of the ledger, in its order.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._uses: dict[str, dict[UUID, _Use]] = {}
        self._charges: dict[tuple[UUID, Part], Charge] = {}
        self._splits: dict[str, set[str]] = {}
        self._fingerprints: dict[str, list[str]] = {}
        self._limits: dict[str, Limits | None] = {}
        for entry in entries:
            self.add(entry)

    def copy(self) -> Self:
        """Returns accounts that grow apart from these."""
        new = type(self)()
        new._uses = {
            cohort: {training: use.copy() for training, use in uses.items()}
            for cohort, uses in self._uses.items()
        }
        new._charges = dict(self._charges)
        new._splits = {cohort: set(splits) for cohort, splits in self._splits.items()}
        new._fingerprints = {cohort: list(seen) for cohort, seen in self._fingerprints.items()}
        new._limits = dict(self._limits)
        return new

    def holds(self, entry: Entry) -> bool:
        """Whether an entry is there already and must not count again.

        Raises:
            ChargeConflict: the attempt of a round was charged before, with something else.
        """
        if isinstance(entry, Release):
            return not self.is_open(entry.training)
        if isinstance(entry, Reservation):
            use = self._uses.get(entry.cohort, {}).get(entry.training)
            return use is not None and bool(use.reserved)
        earlier = self._charges.get((entry.round_id, entry.part))
        if earlier is not None and _identity(earlier) != _identity(entry):
            raise ChargeConflict(
                f"round {entry.round_id} was charged to {entry.part} rows before, "
                f"for round {earlier.number} of training {earlier.training} on cohort "
                f"{earlier.cohort!r}, with another mechanism, round, training or cohort"
            )
        return earlier is not None

    def add(self, entry: Entry) -> None:
        """Takes an entry of the ledger; one that is there already changes nothing.

        Raises:
            ChargeConflict: see ``holds``.
        """
        if self.holds(entry):
            return
        if isinstance(entry, Release):
            for uses in self._uses.values():
                uses.get(entry.training, _Use()).is_open = False
            return
        use = self._uses.setdefault(entry.cohort, {}).setdefault(entry.training, _Use())
        self._splits.setdefault(entry.cohort, set()).add(entry.split)
        seen = self._fingerprints.setdefault(entry.cohort, [])
        if entry.fingerprint not in seen:
            seen.append(entry.fingerprint)
        self._limits[entry.cohort] = use.limits = entry.limits
        if isinstance(entry, Reservation):
            use.reserved = {part: folded(m) for part, m in entry.mechanisms.items()}
            use.is_open = True
        else:
            self._charges[entry.round_id, entry.part] = entry
            use.spent.setdefault(entry.part, Counter()).update(folded(entry.mechanism))

    @property
    def cohorts(self) -> tuple[str, ...]:
        """The cohorts with an account."""
        return tuple(self._uses)

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All charges, in the order of the ledger."""
        return tuple(self._charges.values())

    def trainings(self, cohort: str) -> tuple[UUID, ...]:
        """The trainings on a cohort, in the order of the ledger."""
        return tuple(self._uses.get(cohort, {}))

    def fingerprints(self, cohort: str) -> tuple[str, ...]:
        """The tables that the cohort has had, in the order of the ledger."""
        return tuple(self._fingerprints.get(cohort, ()))

    def splits(self, cohort: str) -> int:
        """How many split keys the cohort has had."""
        return len(self._splits.get(cohort, ()))

    def is_open(self, training: UUID) -> bool:
        """Whether something of a training's reservation is still set aside."""
        return any(uses[training].is_open for uses in self._uses.values() if training in uses)

    def spent_epsilon(self, cohort: str, *, delta: float, training: UUID | None = None) -> float:
        """Returns what the cohort has lost: to one training, or to all."""
        uses = self._chosen(cohort, training)
        bags = self._bags(cohort, lambda use, part: use.spent.get(part, Counter()), uses)
        price = _largest(bags, delta)
        return price if training is None else min(price, self._of_plan(cohort, training, delta))

    def committed_epsilon(
        self, cohort: str, *, delta: float, training: UUID | None = None
    ) -> float:
        """Returns what the cohort has lost and open reservations still may take."""
        uses = self._chosen(cohort, training)
        price = _largest(self._bags(cohort, _Use.committed, uses), delta)
        return price if training is None else min(price, self._of_plan(cohort, training, delta))

    def _chosen(self, cohort: str, training: UUID | None) -> list[_Use]:
        uses = self._uses.get(cohort, {})
        return list(uses.values()) if training is None else [uses[training]]

    def _bags(
        self, cohort: str, bag_of: Callable[[_Use, Part], Bag], uses: Sequence[_Use]
    ) -> list[Bag]:
        bags = [sum((bag_of(use, part) for use in uses), Counter()) for part in PARTS]
        # After a new split key a row may have been on both sides.
        return bags if self.splits(cohort) <= 1 else [sum(bags, Counter())]

    def _of_plan(self, cohort: str, training: UUID, delta: float) -> float:
        """Price of a training as it was declared: nothing in it was chosen later."""
        use = self._uses[cohort][training]
        if not use.is_within_plan or self.splits(cohort) > 1:
            return math.inf
        return max(_declared(_whole(bag), delta) for bag in use.reserved.values())

    def covers(self, charge: Reservation | Charge) -> bool:
        """Whether a charge lies inside its training's open reservation: no account changes."""
        use = self._uses.get(charge.cohort, {}).get(charge.training)
        if not isinstance(charge, Charge) or use is None or not use.is_open:
            return False
        spent = use.spent.get(charge.part, Counter()) + folded(charge.mechanism)
        known = self._splits[charge.cohort]
        return charge.split in known and spent <= use.reserved.get(charge.part, Counter())

    def limits(self, cohort: str, training: UUID) -> set[Limits | None]:
        """The limits under which the last entries of the cohort and of its training were accepted.

        Those of the cohort hold for its total, those of the training for the training alone.
        """
        return {self._limits[cohort], self._uses[cohort][training].limits}


def _identity(charge: Charge) -> tuple[object, ...]:
    # A table may have changed, and limits too, between two tries to charge one attempt.
    return charge.training, charge.cohort, charge.number, charge.mechanism


def _copied(bags: dict[Part, Bag]) -> dict[Part, Bag]:
    return {part: bag.copy() for part, bag in bags.items()}


def _largest(bags: Iterable[Bag], delta: float) -> float:
    return max(_adaptive(_whole(bag), delta) for bag in bags)


def _whole(bag: Bag) -> Composed:
    """The one mechanism of a bag: equal contents give equal mechanisms."""
    counted = sorted(bag.items(), key=lambda item: repr(item[0]))
    return Composed(tuple(Repeated(mechanism, count) for mechanism, count in counted if count))


# The accountants are pure: what was priced once in a process costs nothing the second time. They
# take a second to import, and most of what opens a ledger prices nothing.
@lru_cache(maxsize=1024)
def _adaptive(mechanism: Composed, delta: float) -> float:
    from privacy.accounting import adaptive_epsilon

    return adaptive_epsilon(mechanism, delta=delta) if mechanism.parts else 0.0


@lru_cache(maxsize=1024)
def _declared(mechanism: Composed, delta: float) -> float:
    from privacy.pricing import declared_epsilon

    return declared_epsilon(mechanism, delta=delta) if mechanism.parts else 0.0
