"""Rounds that failed because a hospital's people have yet to decide, or its hours to come.

    if (why := waits_for(coordinator, training_id)) is not None: ...

Such a round is no fault of the training: giving it up would throw away the approval that it waits
for, which holds for this training alone.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from db.queries import participations, rounds
from db.session import transaction
from tasks.coordinator import Coordinator

WAITING_CODES: Final = frozenset({"awaiting-approval", "policy-hours"})
"""Refusals that time or a person at the hospital lifts, without a change of the training."""


def waits_for(coordinator: Coordinator, training_id: UUID) -> str | None:
    """Returns for what a training waits if its last round failed for nothing else; else None.

    A round that someone was lost in, or that any hospital refused for another reason, counts as a
    failure.
    """
    with transaction(coordinator.engine) as session:
        ended = [r for r in rounds.list_rounds(session, training_id) if r.state != "pending"]
        if not ended or ended[-1].state != "failed":
            return None
        taking_part = participations.participations(session, ended[-1].id)
    out = [p for p in taking_part if p.state in ("refused", "lost")]
    if not out or any(p.reason_code not in WAITING_CODES for p in out):
        return None
    return ", ".join(f"{p.hospital_id} {p.reason_code}" for p in out)
