"""What a round does to the hospital's ledger: reserve, charge, release.

budget = RoundBudget.of(site, invitation, table, policy)
budget.reserve()      # accepted: before anything leaves, and before work is done in vain
budget.charge()       # on disk before the upload leaves
budget.close()        # the closing evaluation was answered
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from db.errors import LedgerBroken, LedgerRolledBack
from fl.invitation import RoundInvitation
from fl.policy import Policy
from fl.table import Table, canonical_blocks
from privacy.errors import BudgetExceeded, ChargeConflict, UnknownMechanism
from privacy.ledger import Charge, Limits, Part, Release, Reservation
from privacy.mechanisms import Mechanism, evaluation_mechanism_of, mechanism_of
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site

_SPLIT_NAME: Final = b"fedmed split key\0"


def fingerprint_of(table: Table) -> str:
    """Returns the SHA-256, hex, of a table's rows in their order."""
    digest = hashlib.sha256(repr(table.features.shape).encode())
    for array in (table.features, table.labels):
        for rows in canonical_blocks(array):
            digest.update(rows.data)
    return digest.hexdigest()


def split_name(split_key: bytes) -> str:
    """Returns what names a split key without telling anything about it."""
    return hashlib.sha256(_SPLIT_NAME + split_key).hexdigest()


@dataclass(frozen=True, slots=True)
class RoundBudget:
    """The ledger's side of one round."""

    site: Site
    invitation: RoundInvitation
    limits: Limits
    cohort: str
    fingerprint: str

    @classmethod
    def of(cls, site: Site, invitation: RoundInvitation, table: Table, policy: Policy) -> Self:
        """Returns the budget of a round on a table, under the policy in force."""
        return cls(site, invitation, policy.limits, policy.cohort, fingerprint_of(table))

    def reserve(self) -> None:
        """Sets the training's whole plan aside, the first time; makes sure this round has room.

        A hospital that first hears of a training at its closing evaluation reserves nothing.

        Raises:
            Refusal: ``privacy-budget``, ``ledger-rolled-back``, ``ledger-broken`` or
                ``ledger-unknown``.
        """
        plan, is_training = self.invitation.plan, self.invitation.kind == "training"
        reservation = Reservation(
            **self._shared(),
            rounds=plan.rounds,
            mechanisms={
                "training": mechanism_of(plan),
                "held-out": evaluation_mechanism_of(plan),
            },
        )
        with self._refusing():
            self.site.ledger.accept(
                [reservation] if is_training else [], limits=self.limits, foreseen=self._charges()
            )

    def charge(self) -> None:
        """Charges what the round is about to release; it is on disk when this returns.

        Raises:
            Refusal: see ``reserve``.
        """
        with self._refusing():
            self.site.ledger.accept(self._charges(), limits=self.limits)

    def close(self) -> None:
        """Frees what the training never used, if this round was its closing evaluation.

        Raises:
            Refusal: see ``reserve``.
        """
        if self.invitation.kind == "evaluation":
            release = Release(training=self.invitation.training_id, reason="closed")
            with self._refusing():
                self.site.ledger.accept([release], limits=self.limits)

    def _charges(self) -> list[Charge]:
        plan = self.invitation.plan
        released: dict[Part, Mechanism] = {}
        if self.invitation.evaluate:
            released["held-out"] = evaluation_mechanism_of(plan, evaluations=1)
        if self.invitation.kind == "training":
            released["training"] = mechanism_of(plan, rounds=1)
        return [
            Charge(
                **self._shared(),
                number=self.invitation.number,
                round_id=self.invitation.round_id,
                part=part,
                mechanism=mechanism,
            )
            for part, mechanism in released.items()
        ]

    def _shared(self) -> dict[str, Any]:
        return {
            "training": self.invitation.training_id,
            "cohort": self.cohort,
            "fingerprint": self.fingerprint,
            "split": split_name(self.site.split_key),
        }

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turns what the ledger says into a refusal; details stay in the hospital's own log."""
        named = f"`fedmed hospital ledger {{}} --hospital-id {self.site.settings.hospital_id}`"
        try:
            yield
            return
        except BudgetExceeded as error:
            raise Refusal("privacy-budget", str(error)) from None
        except LedgerRolledBack as error:
            detail, code = str(error), "ledger-rolled-back"
            reason = "the ledger is older than its witness or the witness than it: a person here "
            reason += f"must run {named.format('repair')}"
        except LedgerBroken as error:
            detail, code = str(error), "ledger-broken"
            reason = f"the ledger was changed or cannot be read: {named.format('verify')} says how"
        except (UnknownMechanism, ChargeConflict) as error:
            detail, code = str(error), "ledger-unknown"
            reason = f"the ledger holds what this version cannot price: {named.format('verify')}"
        self.site.store.log(code, {"detail": detail})
        raise Refusal(code, reason)
