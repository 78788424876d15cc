"""The hospital's durable journal, as the secure sum wants it.

participant = Participant(…, journal=SiteJournal(site.store.journal(training_id)))
"""

from __future__ import annotations

from collections.abc import Mapping

from db.errors import Conflict
from db.site_store import TrainingJournal
from privacy.errors import RoundReused
from privacy.secagg.journal import STEPS, Step


class SiteJournal:
    """A ``privacy.secagg.journal.Journal`` in the hospital's own store."""

    def __init__(self, journal: TrainingJournal) -> None:
        self._journal = journal

    def record(self, round_number: int, step: Step, digest: bytes) -> None:
        """Writes a step; it is on disk before this returns.

        Raises:
            RoundReused: the step is there already.
        """
        try:
            self._journal.record(round_number, step, digest)
        except Conflict as conflict:
            raise RoundReused(conflict.detail) from None

    def recorded(self, round_number: int) -> Mapping[Step, bytes]:
        """Returns the digests of the steps taken in a round."""
        found = self._journal.recorded(round_number)
        return {step: found[step] for step in STEPS if step in found}
