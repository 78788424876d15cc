"""What a person approves when a training is approved at a hospital, and what the signature is over.

    terms = ApprovalTerms(...)
    signature = signing_key.sign(statement(terms.canonical(), approved_at))

An approval holds for exactly these terms: a training that comes again with another plan, other code
or on other data is another one.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from fl.invitation import Digest, HospitalId
from fl.spec import ModelName, Purpose
from privacy.plan import PrivacyPlan

_DOMAIN: Final = "fedmed approval 1"

_WORDS: Final = {
    "hospital_id": "hospital",
    "training_id": "training",
    "code_hash": "model code",
    "plan": "privacy plan",
    "dataset": "data",
}


class ApprovalTerms(BaseModel):
    """What an approval is bound to.

    Attributes:
        hospital_id: the hospital that approves.
        training_id: the training.
        model: the model's name.
        code_hash: hash of the model's code at this hospital (`fl.code_hash`).
        purpose: what it is for.
        plan: the whole privacy plan.
        dataset: fingerprint of this hospital's data (`fl.fingerprint`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hospital_id: HospitalId
    training_id: UUID
    model: ModelName
    code_hash: Digest
    purpose: Purpose
    plan: PrivacyPlan
    dataset: Digest

    def canonical(self) -> str:
        """Returns the one text of these terms."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def differing(self, other: ApprovalTerms) -> list[str]:
        """Returns in words what differs; nothing when the other terms are these."""
        return [
            _WORDS.get(name, name)
            for name in type(self).model_fields
            if getattr(self, name) != getattr(other, name)
        ]


def statement(canonical_terms: str, approved_at: datetime) -> bytes:
    """Returns the bytes that a hospital signs when its people approve.

    Raises:
        ValueError: the time has no time zone.
    """
    if approved_at.tzinfo is None:
        raise ValueError(f"the time {approved_at} has no time zone")
    at = approved_at.astimezone(UTC).isoformat(timespec="microseconds")
    return f"{_DOMAIN}\n{at}\n{canonical_terms}".encode()
