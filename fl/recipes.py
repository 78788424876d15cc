"""Recipes: how a model is trained when nobody says otherwise, by architecture and epsilon.

    request = completed(TrainingRequest(model="breast-cancer"), spec.architecture)
    request.rounds, request.strategy  # 30, Averaged(step=8.0, average_from=0.5)

A recipe is public: it depends on the architecture and on the epsilon, never on data. Those for
linear models were chosen by their mean loss of accuracy and AUC against a model without privacy on
ten public tables and one set of images; ``docs/recipes.md`` has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fl.architecture_spec import Architecture, HogLogistic, Logistic, Mlp
from fl.spec import TrainingRequest
from fl.stages import statistic_rounds
from fl.strategy_spec import Averaged, FedAvg, StrategySpec
from privacy.plan import PrivacyRequest, Rounds

DEFAULT_EPSILON: Final = 8.0
STRICT_EPSILON: Final = 2.0
LOOSE_EPSILON: Final = 4.0
"""Up to the first of them noise decides, beyond the second hardly: more rounds, larger steps."""

EVALUATIONS: Final = 4
"""Evaluations of a training, the closing one among them: each more adds noise to all."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a training is when nobody says otherwise.

    Attributes:
        name: as the records show it.
        rounds: rounds to train.
        strategy: how the coordinator turns the mean update into weights.
        clip_norm: L2 bound of a record's, or patient's, gradient.
        steps_per_round: noisy steps a hospital takes in a round.
        sampling_rate: probability with which a record enters a step.
    """

    name: str
    rounds: int
    strategy: StrategySpec
    clip_norm: float
    steps_per_round: int
    sampling_rate: float = 1.0


def recipe_for(architecture: Architecture, *, epsilon: float | None) -> Recipe:
    """Returns the recipe of an architecture at an epsilon; None is the default epsilon."""
    epsilon = DEFAULT_EPSILON if epsilon is None else epsilon
    rounds = 20 if epsilon <= LOOSE_EPSILON else 30
    match architecture:
        case Logistic() | HogLogistic():
            return Recipe(
                name="linear",
                rounds=rounds,
                strategy=Averaged(step=_linear_step(epsilon)),
                clip_norm=0.25,
                steps_per_round=1,
            )
        case Mlp():
            return Recipe("perceptron", rounds, Averaged(step=_perceptron_step(epsilon)), 0.5, 1)
        case _:
            return Recipe("deep", 15, FedAvg(), 1.0, 20, sampling_rate=0.05)


class CompleteRequest(TrainingRequest):
    """A request that leaves nothing open, and the name of the recipe behind it."""

    rounds: Rounds
    strategy: StrategySpec
    recipe: str


def _linear_step(epsilon: float) -> float:
    if epsilon <= STRICT_EPSILON:
        return 4.0
    return 6.0 if epsilon <= LOOSE_EPSILON else 8.0


def _perceptron_step(epsilon: float) -> float:
    if epsilon <= STRICT_EPSILON:
        return 1.0
    return 2.0 if epsilon <= LOOSE_EPSILON else 4.0


def completed(request: TrainingRequest, architecture: Architecture) -> CompleteRequest:
    """Returns a request in which nothing is left open: what it does not say, the recipe does.

    Raises:
        pydantic.ValidationError: what is asked for and the recipe do not go together.
    """
    privacy = request.privacy
    recipe = recipe_for(architecture, epsilon=privacy.epsilon)
    rounds = recipe.rounds if request.rounds is None else request.rounds
    filled = {
        "clip_norm": recipe.clip_norm,
        **_sampling(recipe, privacy),
        **evaluations_of(rounds, statistics=statistic_rounds(architecture, rounds)),
    }
    asked = privacy.model_dump(exclude_none=True)
    return CompleteRequest.model_validate(
        {
            **request.model_dump(exclude_none=True),
            "rounds": rounds,
            "strategy": request.strategy or recipe.strategy,
            "recipe": recipe.name,
            "privacy": {**filled, **asked},
        }
    )


def _sampling(recipe: Recipe, privacy: PrivacyRequest) -> dict[str, float]:
    """The recipe's sampling and steps; another sampling rate than its own takes its own steps."""
    asked = privacy.sampling_rate
    if privacy.noise_shares > 1:
        return {"sampling_rate": 1.0, "steps_per_round": 1}
    if asked is not None and asked != recipe.sampling_rate:
        return {}
    return {
        "sampling_rate": recipe.sampling_rate,
        "steps_per_round": recipe.steps_per_round,
    }


def evaluations_of(rounds: int, *, statistics: int) -> dict[str, int]:
    """Returns how many evaluations a training has, and how many rounds lie between them.

    They are spread evenly over the rounds that change the model's predictions, from the last one
    back.
    """
    training = rounds - statistics
    evaluations = min(EVALUATIONS, training + 1)
    interval = max(1, training // evaluations)
    return {"evaluations": evaluations, "evaluation_interval": interval}
