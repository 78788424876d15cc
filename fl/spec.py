"""What a model is and what a training asks for: frozen values, free of PyTorch and Flower.

spec = ModelSpec(name="breast-cancer", architecture=Logistic(), contract=contract)
request = TrainingRequest(model="breast-cancer", privacy=PrivacyRequest(epsilon=1))
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from fl.architecture_spec import MOST_PARAMETERS, Architecture, standardises
from fl.contract import DataContract
from fl.operating_point import OperatingPoint
from fl.strategy_spec import Momentum, Positive, StrategySpec
from privacy.plan import PrivacyPlan, PrivacyRequest, Rounds, require_bounded_steps

LEAST_COHORT = 3  # a sum of two shows each of them the other
DEFAULT_PURPOSE = "research"


def most_colluding(hospitals: int) -> int:
    """Returns how many of so many hospitals may work together with the coordinator: a third."""
    return hospitals // 3


ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Purpose = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Hyperparameters(_Frozen):
    """How a hospital takes its steps; the batch comes from the privacy plan.

    A recipe of one step a round brings a learning rate of its own, and there momentum has nothing
    to carry over.

    Attributes:
        learning_rate: of SGD; the largest that is used.
        momentum: of SGD.
        noise_limit: the most noise, as a standard deviation, that one round may put on a weight of
            a hospital's model. Under a plan with more noise the learning rate is shortened to keep
            it, so that one model trains well at every epsilon. None: no limit.
    """

    learning_rate: Positive = 0.5
    momentum: Momentum = 0.9
    noise_limit: Positive | None = None

    def learning_rate_under(self, plan: PrivacyPlan) -> float:
        """Returns the learning rate that keeps the noise limit, from public constants alone.

        The noise of a step is ``clip_norm * noise_multiplier / expected_batch_size``, less where
        several hospitals share it; that of independent steps adds up by squares, and momentum
        multiplies each by at most ``1 / (1 - momentum)``.
        """
        if self.noise_limit is None:
            return self.learning_rate
        step = plan.clip_norm * plan.noise_multiplier / math.sqrt(plan.noise_shares)
        in_round = step / plan.expected_batch_size * math.sqrt(plan.steps_per_round)
        return min(self.learning_rate, self.noise_limit * (1 - self.momentum) / in_round)


class ModelSpec(_Frozen):
    """A named architecture with its data contract and hyperparameters.

    Its figures at a threshold are read at ``operating_point``.
    """

    name: ModelName
    description: Annotated[str, StringConstraints(max_length=2000)] = ""
    architecture: Architecture
    contract: DataContract
    hyperparameters: Hyperparameters = Hyperparameters()
    operating_point: OperatingPoint = OperatingPoint()

    @property
    def standardises(self) -> bool:
        """Whether a training begins by finding its features' centre and spread."""
        return standardises(self.architecture)

    @model_validator(mode="after")
    def _reads_what_the_contract_names(self) -> Self:
        reads, named = self.architecture.reads, "images" if self.contract.images else "columns"
        if reads not in ("any", named):
            raise ValueError(
                f"architecture {self.architecture.kind!r} reads {reads}, "
                f"but the contract names {named}"
            )
        return self

    @model_validator(mode="after")
    def _fits_a_hospital(self) -> Self:
        parameters = self.architecture.parameters(self.contract.shape)
        if parameters > MOST_PARAMETERS:
            raise ValueError(f"architecture: {parameters} parameters, {MOST_PARAMETERS} at most")
        return self


class TrainingRequest(_Frozen):
    """What a person asks for when a training starts.

    Attributes:
        model: name of a registered model.
        purpose: what the model is for, in one word; hospitals hold it to their policy.
        rounds: rounds to train. None, here and below: as the recipe for the model's architecture
            and the epsilon has it (`fl.recipes`).
        strategy: how the coordinator turns the mean update into new weights.
        privacy: the epsilon to stay under, or the noise, and the public sampling constants.
        least_cohort: fewest hospitals with which a round may run; never below three.
        round_deadline_s: seconds after which a silent hospital ends the round.
        pace: ``at-once`` runs all rounds one after the other; ``scheduled`` leaves them to the
            runs of the deployment ``federated-round``, one round each.
    """

    model: ModelName
    purpose: Purpose = DEFAULT_PURPOSE
    rounds: Rounds | None = None
    strategy: StrategySpec | None = None
    privacy: PrivacyRequest = PrivacyRequest()
    least_cohort: Annotated[int, Field(ge=LEAST_COHORT, le=256)] = LEAST_COHORT
    round_deadline_s: Annotated[float, Field(ge=5, le=86_400)] = 120.0
    pace: Literal["at-once", "scheduled"] = "at-once"

    @model_validator(mode="after")
    def _steps_are_bounded(self) -> Self:
        if self.rounds is not None:
            require_bounded_steps(steps_per_round=self.privacy.steps, rounds=self.rounds)
        return self

    @model_validator(mode="after")
    def _enough_honest_hospitals_share_the_noise(self) -> Self:
        shares, most = (
            self.privacy.noise_shares,
            self.least_cohort - most_colluding(self.least_cohort),
        )
        if shares > 1 and shares > most:
            raise ValueError(
                f"noise_shares {shares}: of a least cohort of {self.least_cohort}, "
                f"{most_colluding(self.least_cohort)} may collude with the coordinator, who would "
                f"know their noise; take at most {most}, or a larger least_cohort"
            )
        return self
