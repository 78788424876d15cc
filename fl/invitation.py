"""The invitation to a round: all that a hospital's flow run is told, as strict, frozen values.

It travels as the one parameter of the ``hospital-round`` flow. The hospital checks it against what
it knows itself before anything runs.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from fl.spec import DEFAULT_PURPOSE, LEAST_COHORT, ModelSpec, Purpose
from privacy.plan import PrivacyPlan

HospitalId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Key = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ConfigName = Literal["proximal-mu", "learning-rate", "stage", "radius"]
ConfigValue = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class RosterEntry(BaseModel):
    """An invited hospital: its index in the secure sum and its public identity keys, hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hospital_id: HospitalId
    index: Annotated[int, Field(ge=1, le=256)]
    signing_key: Key
    sealing_key: Key


class RoundInvitation(BaseModel):
    """What the coordinator asks of a hospital in one round.

    Attributes:
        round_id: identity of the round on the exchange.
        training_id: the training the round belongs to; the session of the secure sum.
        number: number of the round in its training, from 1; never used twice.
        kind: ``training`` evaluates the incoming weights and trains; ``evaluation`` only evaluates.
        purpose: what the model is for, as the person who started the training has put it.
        model: the model's specification.
        weights: SHA-256 of the incoming weights, under which the exchange serves them.
        plan: the privacy plan.
        train_config: scalars for the hospital's part: ``proximal-mu``; ``learning-rate`` in place
            of the model's; ``stage`` and ``radius`` of a round that measures features
            (`fl.stages`).
        evaluate: whether the incoming weights are evaluated on held-out rows.
        roster: the invited hospitals, indices 1 to n without gaps.
        deadline_s: seconds the hospital may spend before the coordinator gives the round up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    round_id: UUID
    training_id: UUID
    number: Annotated[int, Field(ge=1, le=1_000_000)]
    kind: Literal["training", "evaluation"]
    purpose: Purpose = DEFAULT_PURPOSE
    model: ModelSpec
    weights: Digest
    plan: PrivacyPlan
    train_config: dict[ConfigName, ConfigValue] = {}
    evaluate: bool = True
    roster: Annotated[tuple[RosterEntry, ...], Field(min_length=LEAST_COHORT, max_length=256)]
    deadline_s: Annotated[float, Field(gt=0, le=86_400)]

    @property
    def learning_rate(self) -> float:
        """The learning rate of this round, from public constants alone."""
        own = self.model.hyperparameters.learning_rate_under(self.plan)
        return self.train_config.get("learning-rate", own)

    @model_validator(mode="after")
    def _an_evaluation_evaluates(self) -> Self:
        if self.kind == "evaluation" and not self.evaluate:
            raise ValueError("evaluate: an evaluation round evaluates")
        return self

    @model_validator(mode="after")
    def _roster_is_whole(self) -> Self:
        if [entry.index for entry in self.roster] != list(range(1, len(self.roster) + 1)):
            raise ValueError("roster: indices must run from 1 to n in order")
        if len({entry.hospital_id for entry in self.roster}) != len(self.roster):
            raise ValueError("roster: a hospital is named twice")
        return self

    def index_of(self, hospital_id: str) -> int:
        """Returns the hospital's index in the secure sum; KeyError when it is not invited."""
        for entry in self.roster:
            if entry.hospital_id == hospital_id:
                return entry.index
        raise KeyError(hospital_id)
