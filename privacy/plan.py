"""The privacy plan: the public constants under which a training runs.

Nothing here is derived from a hospital's data: the sampling rate and the divisor of the averaged
gradient are constants, so that one record more or less cannot be seen in the size of an update.

    plan = calibration.plan_for(PrivacyRequest(epsilon=8.0), rounds=10)
"""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from privacy.errors import PlanError

ClipNorm = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
NoiseMultiplier = Annotated[float, Field(ge=0.3, le=1000, allow_inf_nan=False)]
SamplingRate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Rounds = Annotated[int, Field(ge=1, le=1000)]
Steps = Annotated[int, Field(ge=1, le=10_000)]
BatchSize = Annotated[int, Field(ge=1, le=1_000_000)]
Delta = Annotated[float, Field(ge=1e-12, le=1e-3, allow_inf_nan=False)]
Epsilon = Annotated[float, Field(ge=0.01, le=20, allow_inf_nan=False)]
NoiseShares = Annotated[int, Field(ge=1, le=256)]
Evaluations = Annotated[int, Field(ge=1, le=1001)]

DEFAULT_CLIP_NORM: Final = 0.5
FULL_BATCH_STEPS: Final = 8
MOST_STEPS: Final = 100_000
"""Most steps of a whole training."""


class PrivacyPlan(BaseModel):
    """What every hospital does to every update of a training; all constants are public.

    Attributes:
        clip_norm: L2 bound of the gradient of one record, or of one patient where the data contract
            names patients, C.
        noise_multiplier: standard deviation of the noise on a sum of gradients, in units of C.
        noise_shares: honest hospitals among whom that noise is shared under the secure sum; with 1
            each hospital's own update carries all of it.
        evaluation_noise_multiplier: standard deviation of the noise on each count of held-out rows.
        sampling_rate: probability q with which a record, or patient, enters a step (Poisson
            sampling); at 1 all are in every step and nothing is sampled.
        expected_batch_size: divisor of the noisy sum of gradients.
        steps_per_round: noisy steps a hospital takes in a round.
        rounds: rounds that the training may take.
        evaluations: evaluations on held-out rows that the training may release, the closing one
            among them; None: one of each round's incoming weights, and the closing one.
        evaluation_interval: rounds from one evaluation to the next; the closing one is the last.
        delta: the delta at which epsilon is reported.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_norm: ClipNorm
    noise_multiplier: NoiseMultiplier
    noise_shares: NoiseShares = 1
    evaluation_noise_multiplier: NoiseMultiplier
    sampling_rate: SamplingRate
    expected_batch_size: BatchSize
    steps_per_round: Steps
    rounds: Rounds
    evaluations: Evaluations | None = None
    evaluation_interval: Rounds = 1
    delta: Delta

    @property
    def all_evaluations(self) -> int:
        """Evaluations that the training may release, the closing one among them."""
        return self.rounds + 1 if self.evaluations is None else self.evaluations

    def evaluates_after(self, rounds: int) -> bool:
        """Whether the weights that so many rounds have left are evaluated.

        Counted from the end, so that the closing evaluation, after all of them, is one.
        """
        from_end, rest = divmod(self.rounds - rounds, self.evaluation_interval)
        return rest == 0 and from_end < self.all_evaluations

    def evaluations_after(self, rounds: int) -> int:
        """How many evaluations there have been when those after so many rounds are done."""
        # Reckoned from the end, as `evaluates_after` does.
        last = min(self.all_evaluations - 1, self.rounds // self.evaluation_interval)
        first = -(-(self.rounds - rounds) // self.evaluation_interval)
        return max(0, last - first + 1)

    @model_validator(mode="after")
    def _evaluations_fit_the_rounds(self) -> Self:
        if self.evaluations is not None:
            last = (self.evaluations - 1) * self.evaluation_interval
            if last > self.rounds:
                raise PlanError(
                    f"evaluations {self.evaluations}, one every {self.evaluation_interval} rounds: "
                    f"they need {last} rounds, the training has {self.rounds}"
                )
        return self

    @model_validator(mode="after")
    def _noise_can_be_shared(self) -> Self:
        require_shareable(
            noise_shares=self.noise_shares,
            sampling_rate=self.sampling_rate,
            steps_per_round=self.steps_per_round,
        )
        return self

    @model_validator(mode="after")
    def _steps_are_bounded(self) -> Self:
        require_bounded_steps(steps_per_round=self.steps_per_round, rounds=self.rounds)
        return self


class PrivacyRequest(BaseModel):
    """What a person asks for: an epsilon to stay under, or the noise itself.

    ``epsilon`` and ``noise_multiplier`` exclude each other; with neither, epsilon is 8. Unless
    asked otherwise, every step takes all of a hospital's records, of whose number
    ``expected_batch_size`` is a public guess: a sample of so few is not worth its extra noise.
    ``steps`` says how many steps a round has when ``steps_per_round`` is left out. ``evaluations``
    and their interval are as in the plan. A training's recipe fills in what is None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epsilon: Epsilon | None = None
    noise_multiplier: NoiseMultiplier | None = None
    noise_shares: NoiseShares = 1
    delta: Delta = 1e-5
    clip_norm: ClipNorm | None = None
    sampling_rate: SamplingRate | None = None
    expected_batch_size: BatchSize = 128
    steps_per_round: Steps | None = None
    evaluations: Evaluations | None = None
    evaluation_interval: Rounds | None = None

    @model_validator(mode="after")
    def _one_of_epsilon_and_noise(self) -> Self:
        if self.epsilon is not None and self.noise_multiplier is not None:
            raise ValueError(
                "give epsilon or noise_multiplier, not both: one follows from the other"
            )
        return self

    @model_validator(mode="after")
    def _noise_can_be_shared(self) -> Self:
        require_shareable(
            noise_shares=self.noise_shares,
            sampling_rate=self.rate,
            steps_per_round=self.steps,
        )
        return self

    @property
    def rate(self) -> float:
        """The sampling rate: 1 unless asked otherwise."""
        return 1.0 if self.sampling_rate is None else self.sampling_rate

    @property
    def steps(self) -> int:
        """Steps a round: as asked, or one pass over the data in expectation where it is sampled.

        Where all records take part in each step it is eight, or the one that shared noise allows.
        """
        if self.steps_per_round is not None:
            return self.steps_per_round
        if self.noise_shares > 1:
            return 1
        return FULL_BATCH_STEPS if self.rate == 1 else max(1, round(1 / self.rate))


def require_shareable(*, noise_shares: int, sampling_rate: float, steps_per_round: int) -> None:
    """Refuses noise shared among hospitals in a plan where no hospital can release a share.

    Shared noise is whole only in the sum of a round. A second local step would start from weights
    that carry one hospital's share alone, and a secret sample at each hospital has no price here.

    Raises:
        PlanError: noise is shared and a round is not one step on all records.
    """
    if noise_shares > 1 and (sampling_rate != 1 or steps_per_round != 1):
        raise PlanError(
            f"noise_shares {noise_shares}: noise shared under the sum needs sampling_rate 1 and "
            f"steps_per_round 1, not {sampling_rate:g} and {steps_per_round}; a second local step "
            "would start from weights whose noise is not enough yet"
        )


def require_bounded_steps(*, steps_per_round: int, rounds: int) -> None:
    """Refuses a training of more steps than any hospital would take.

    Raises:
        PlanError: the rounds' steps are more than `MOST_STEPS` together.
    """
    if steps_per_round * rounds > MOST_STEPS:
        raise PlanError(
            f"{rounds} rounds of {steps_per_round} steps: {steps_per_round * rounds} steps are "
            f"more than {MOST_STEPS}"
        )
