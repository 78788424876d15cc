"""The hospital's ledger with its rules: what its patients have lost, and whether more is allowed.

    ledger = HospitalLedger(SiteLedger(path, witness=witness))
    ledger.accept([reservation], limits=limits)        # on disk, or refused

The store keeps and orders entries (`db.site_ledger`); the rules are pure (`privacy.budget`). Here
they meet: every decision is made on all entries, and written before anybody else can decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID, uuid4

from db.ledger_entry import LedgerEntry
from db.site_ledger import NOTES, NewEntry, Repair, SiteLedger
from privacy.accounts import Accounts, folded
from privacy.budget import accept, replay
from privacy.ledger import (
    Charge,
    Entry,
    Limits,
    Release,
    Reservation,
    from_plain,
    to_plain,
)
from privacy.mechanisms import Composed, Repeated

_UNNUMBERED: Final = 0  # rounds that a person makes good: which ones they were is not known


class NoSuchTraining(Exception):
    """The ledger holds nothing of this training that the command is about."""


class HospitalLedger:
    """The ledger; each call is one step that is on disk, or did not happen.

    Every method raises `db.errors.LedgerBroken` and `db.errors.LedgerRolledBack` when the ledger is
    not what was written, and `privacy.errors.UnknownMechanism` when it holds what has no price.
    """

    def __init__(self, store: SiteLedger) -> None:
        self._store = store
        self._accounts = Accounts()
        self._counted: tuple[int, str] = (0, "")

    def accounts(self) -> Accounts:
        """Returns the accounts of all cohorts."""
        return self._accounts_of(self._store.entries()).copy()

    def accept(
        self, wanted: Sequence[Entry], *, limits: Limits, foreseen: Sequence[Entry] = ()
    ) -> tuple[Entry, ...]:
        """Appends those of the wanted entries that are not there yet; returns them.

        Args:
            wanted: reservations, charges, releases.
            limits: of the hospital.
            foreseen: what will be wanted next; it is not written, but there must be room for it.

        Raises:
            BudgetExceeded, ChargeConflict: see `privacy.budget.accept`; nothing is appended.
        """
        new: tuple[Entry, ...] = ()

        def decide(entries: Sequence[LedgerEntry]) -> list[NewEntry]:
            nonlocal new
            accounts = self._accounts_of(entries)
            if foreseen:
                accept(accounts, [*wanted, *foreseen], limits)
            new = accept(accounts, wanted, limits)
            return [to_plain(entry) for entry in new]

        self._store.append(decide)
        return new

    def release(self, training: UUID) -> None:
        """Frees what a training has reserved and not used, by a person's decision.

        Raises:
            NoSuchTraining: it has no open reservation.
        """

        def decide(entries: Sequence[LedgerEntry]) -> list[NewEntry]:
            release = Release(training=training, reason="person")
            if self._accounts_of(entries).holds(release):
                raise NoSuchTraining(f"training {training} has no open reservation here")
            return [to_plain(release)]

        self._store.append(decide)

    def make_good(self, training: UUID, *, rounds: int) -> int:
        """Charges rounds that the ledger does not know of; no limit keeps them out.

        Each counts as a round of the training's reservation, on both parts of the rows.

        Args:
            training: the training.
            rounds: how many, at least 1.

        Returns:
            How many charges were written.

        Raises:
            NoSuchTraining: it has no reservation that says what a round releases.
        """

        def decide(entries: Sequence[LedgerEntry]) -> list[NewEntry]:
            plans = [
                entry
                for entry in _decoded(entries)
                if isinstance(entry, Reservation) and entry.training == training
            ]
            if not plans:
                raise NoSuchTraining(
                    f"training {training} has no reservation here, so nothing says what a round of "
                    "it releases"
                )
            return [to_plain(c) for _ in range(rounds) for c in _round_of(plans[-1])]

        return len(self._store.append(decide))

    def repair(self) -> Repair | None:
        """Brings database and witness together; see `db.site_ledger.SiteLedger.repair`.

        Charges of the witness that the database does not know are charged again, whatever the
        limits say; reservations too. Releases are not: what is set aside a person may free.

        Raises:
            ChargeConflict: the two charged one attempt with different contents; nothing is changed.
        """

        def carry(entries: Sequence[LedgerEntry], lost: Sequence[LedgerEntry]) -> list[NewEntry]:
            accounts, carried = Accounts(_decoded(entries)), list[NewEntry]()
            for entry in _decoded(lost):
                if isinstance(entry, Release):
                    continue
                if not accounts.holds(entry):
                    made_good = replace(entry, limits=None)
                    accounts.add(made_good)
                    carried.append(to_plain(made_good))
            return carried

        return self._store.repair(carry)

    def verified(self) -> tuple[LedgerEntry, ...]:
        """Returns all entries after checking chain, witness and arithmetic.

        Raises:
            BudgetExceeded, ChargeConflict: an entry that could not have been accepted.
        """
        entries = self._store.verified()
        check_arithmetic(entries)
        return entries

    def entries(self) -> tuple[LedgerEntry, ...]:
        """Returns all entries."""
        return self._store.entries()

    def _accounts_of(self, entries: Sequence[LedgerEntry]) -> Accounts:
        """The accounts of all entries; what was counted before is not counted again."""
        count, last = self._counted
        if count > len(entries) or (count and entries[count - 1].hash != last):
            self._accounts, self._counted, count = Accounts(), (0, ""), 0
        for place, row in enumerate(entries[count:], start=count + 1):
            for entry in _decoded([row]):
                self._accounts.add(entry)
            self._counted = (place, row.hash)
        return self._accounts


def check_arithmetic(entries: Iterable[LedgerEntry]) -> Accounts:
    """Returns the accounts of entries, each held to the limits that it names.

    Raises:
        BudgetExceeded, ChargeConflict, UnknownMechanism: an entry that could not have been
            accepted, or has no price.
    """
    return replay(_decoded(entries))


def _decoded(entries: Iterable[LedgerEntry]) -> list[Entry]:
    return [from_plain(row.kind, row.details) for row in entries if row.kind not in NOTES]


def _round_of(plan: Reservation) -> list[Charge]:
    """A round of a reservation; where its steps do not divide by the rounds, rounded up."""
    round_id = uuid4()
    return [
        Charge(
            training=plan.training,
            cohort=plan.cohort,
            fingerprint=plan.fingerprint,
            split=plan.split,
            number=_UNNUMBERED,
            round_id=round_id,
            part=part,
            mechanism=Composed(
                tuple(
                    Repeated(step, -(-count // plan.rounds))
                    for step, count in folded(mechanism).items()
                )
            ),
        )
        for part, mechanism in plan.mechanisms.items()
    ]
