"""The course of a training: which stage each round is, and what its mean makes of the weights.

    course = Course(spec, plan, strategy)
    asked = course.configure(state, hospitals=3)             # what the hospitals are told
    …                                                        # dispatch, gather, unmask
    outcome = course.aggregate(state, asked, mean_update=mean, hospitals=3)

Rounds that measure the features are the coordinator's own (`fl.standardising`); rounds that train
go through the Flower strategy (`fl.rounds`), for which the standardiser's weights never change.
Pure, like `fl.rounds`: whatever a course remembers lies in the strategy's state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from fl.architecture_spec import HogLogistic
from fl.encoding import feature_steps
from fl.errors import RoundError
from fl.evaluation import Evaluation
from fl.names import STANDARDISER
from fl.rounds import RoundOutcome, RoundPlan, RoundState, aggregate, configure
from fl.spec import ModelSpec
from fl.stages import LEARNING_RATE, Stage, stage_of
from fl.standardising import Measured, absorbed, measuring, records_in
from fl.strategies import build_strategy
from fl.strategy_spec import Averaged, StrategySpec
from fl.weights import Weights, layout, unflatten
from privacy.plan import PrivacyPlan

COURSE: Final = "course"
DONE: Final = "done"


@dataclass(frozen=True, slots=True)
class Course:
    """A training's model, plan and strategy.

    Attributes:
        spec: the model.
        plan: the privacy plan; its rounds are the course's.
        strategy: what turns the mean update of a round that trains into weights.
    """

    spec: ModelSpec
    plan: PrivacyPlan
    strategy: StrategySpec

    def stage(self, state: RoundState) -> Stage:
        """Returns the stage of the round that starts at a state."""
        return stage_of(self.spec.architecture, self.plan, done=_done(state.strategy_state))

    def configure(self, state: RoundState, *, hospitals: int) -> RoundPlan:
        """Returns what the hospitals are asked in the round that starts at a state.

        Args:
            state: weights, and what the course remembers.
            hospitals: how many are invited.

        Raises:
            RoundError: see `fl.rounds.configure`.
            StrategyError: the state of another strategy.
        """
        stage = self.stage(state)
        if stage.kind != "train":
            config = measuring(stage, self.plan, state.weights)
            return RoundPlan(state.number, state.weights, config, _without_course(state))
        inner = replace(state, strategy_state=_without_course(state))
        asked = configure(self._strategy(stage), inner)
        return replace(
            asked,
            train_config={**asked.train_config, **self._step(state.weights, hospitals=hospitals)},
        )

    def aggregate(
        self,
        state: RoundState,
        asked: RoundPlan,
        *,
        mean_update: NDArray[np.floating],
        hospitals: int,
        evaluation: Evaluation | None = None,
    ) -> RoundOutcome:
        """Returns where the next round starts.

        Args:
            state: where this round started.
            asked: what `configure` returned.
            mean_update: the hospitals' mean change of the weights, float, shape (p,), in the order
                of `fl.weights.flatten`.
            hospitals: whose changes are in the mean, at least 1.
            evaluation: figures of the weights that the round started from, if it measured them.

        Raises:
            RoundError: see `fl.rounds.aggregate`.
        """
        stage = self.stage(state)
        if stage.kind == "train":
            kept = _without_standardiser(mean_update, state.weights)
            outcome = aggregate(
                self._strategy(stage),
                asked,
                mean_update=kept,
                weight=hospitals,
                evaluation=evaluation,
            )
        else:
            weights = self._measured(stage, state, asked, mean_update, hospitals)
            metrics = {} if evaluation is None else evaluation.metrics()
            outcome = RoundOutcome(
                RoundState(state.number + 1, weights, asked.strategy_state), metrics
            )
        remembered = RecordDict(dict(outcome.state.strategy_state))
        remembered[COURSE] = ConfigRecord({DONE: _done(state.strategy_state) + 1})
        return replace(outcome, state=replace(outcome.state, strategy_state=remembered))

    def _strategy(self, stage: Stage) -> Strategy:
        return build_strategy(self.strategy, place=stage.place, rounds=stage.rounds)

    def _step(self, weights: Weights, *, hospitals: int) -> dict[str, float]:
        """The learning rate at which a round goes as far as the strategy says, if it does."""
        if not isinstance(self.strategy, Averaged) or self.strategy.step is None:
            return {}
        rate = self.strategy.step / self.plan.clip_norm
        if (records := records_in(weights)) is not None:
            # The mean of the hospitals' sums becomes the mean over all records.
            rate *= self.plan.expected_batch_size * hospitals / records
        return {LEARNING_RATE: rate}

    def _measured(
        self,
        stage: Stage,
        state: RoundState,
        asked: RoundPlan,
        mean_update: NDArray[np.floating],
        hospitals: int,
    ) -> Weights:
        if mean_update.shape != (layout(state.weights).size,) or not np.isfinite(mean_update).all():
            raise RoundError(f"round {state.number}: the mean update is not one of these weights")
        weights = absorbed(
            stage,
            self.plan,
            state.weights,
            unflatten(mean_update.astype(np.float32), layout(state.weights)),
            measured=Measured(hospitals, asked.train_config[LEARNING_RATE]),
            steps=_steps(self.spec),
        )
        if not all(np.isfinite(array).all() for array in weights.values()):
            raise RoundError(f"round {state.number}: the features' {stage.kind} is not finite")
        return weights


def _steps(spec: ModelSpec) -> NDArray[np.float64]:
    """How far the two values of two-valued features lie apart; those of images have more."""
    if isinstance(spec.architecture, HogLogistic):
        return np.zeros(spec.architecture.features(spec.contract.shape))
    return feature_steps(spec.contract)


def _done(remembered: RecordDict) -> int:
    """Rounds behind a course that have changed its weights."""
    if COURSE not in remembered:
        return 0
    done = remembered.config_records[COURSE][DONE]
    if not isinstance(done, int) or done < 0:
        raise RoundError(f"course: {done!r} rounds are no number of rounds")
    return done


def _without_course(state: RoundState) -> RecordDict:
    return RecordDict({name: part for name, part in state.strategy_state.items() if name != COURSE})


def _without_standardiser(
    mean_update: NDArray[np.floating], weights: Weights
) -> NDArray[np.floating]:
    """The mean update with zeros for the standardiser: there it is nothing but noise."""
    is_frozen = {name: name.startswith(f"{STANDARDISER}.") for name in sorted(weights)}
    frozen = np.concatenate([np.full(weights[name].size, f) for name, f in is_frozen.items()])
    if mean_update.shape != frozen.shape or not frozen.any():
        return mean_update
    return np.where(frozen, 0, mean_update)
