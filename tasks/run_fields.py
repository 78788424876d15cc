"""What MLflow is told of a training: the same parameters and tags, in the same form, in each run.

run_params(spec, plan, strategy, …)  # {"architecture": "mlp", "architecture.hidden": "64,32", …}

Runs are compared in a table, so a parameter that is not set is written as ``none`` rather than left
out, and numbers keep their type: a float has a point, a whole number none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter

from fl.code_hash import model_code_hash
from fl.contract_file import contract_hash
from fl.spec import ModelSpec
from fl.strategy_spec import StrategySpec
from privacy.plan import PrivacyPlan

NOTE_TAG: Final = "mlflow.note.content"
_STRATEGY: Final[TypeAdapter[StrategySpec]] = TypeAdapter(StrategySpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """What is known of a training when it begins.

    Attributes:
        training_id: the training.
        spec: the model.
        model_version: version of the specification at the coordinator.
        purpose: what it is for, in one word.
        requested_by: who asked for it.
        recipe: the recipe that filled in what was not asked for; empty without one.
        strategy: the strategy's specification.
        plan: the privacy plan.
        epsilon: the price of the whole plan.
        least_cohort: fewest hospitals with which a round may run.
        hospitals: hospitals that a round would have invited when it began.
        public_test: SHA-256 of the public test set; None without one.
    """

    training_id: UUID
    spec: ModelSpec
    model_version: int
    purpose: str
    requested_by: str
    recipe: str
    strategy: Mapping[str, Any]
    plan: PrivacyPlan
    epsilon: float
    least_cohort: int
    hospitals: int
    public_test: str | None = None


def run_params(facts: TrainingFacts) -> dict[str, str]:
    """Returns a run's parameters by name, flat, every value as text."""
    spec = facts.spec
    strategy = _STRATEGY.validate_python(facts.strategy)
    return {
        "rounds": str(facts.plan.rounds),
        "recipe": facts.recipe or "none",
        "hospitals": str(facts.hospitals),
        "least_cohort": str(facts.least_cohort),
        "data_contract": contract_hash(spec.contract),
        "public_test": facts.public_test or "none",
        "architecture": spec.architecture.kind,
        **_flat("architecture", spec.architecture.model_dump(exclude={"kind"})),
        "strategy": strategy.kind,
        **_flat("strategy", strategy.model_dump(exclude={"kind"})),
        **_flat("hyperparameters", spec.hyperparameters.model_dump()),
        "plan.epsilon": _text(facts.epsilon),
        **_flat("plan", facts.plan.model_dump(exclude={"rounds"})),
    }


def run_tags(facts: TrainingFacts) -> dict[str, str]:
    """Returns a run's tags: who, what for, and which code."""
    return {
        "training_id": str(facts.training_id),
        "model_version": str(facts.model_version),
        "requested_by": facts.requested_by,
        "purpose": facts.purpose,
        "code_hash": model_code_hash(facts.spec),
        "package_version": package_version(),
        "mlflow.user": facts.requested_by,
        "mlflow.source.name": "fedmed",
        NOTE_TAG: run_note(facts),
    }


def run_note(facts: TrainingFacts) -> str:
    """Returns the run's description, Markdown."""
    plan = facts.plan
    noise = "local" if plan.noise_shares == 1 else f"shared by {plan.noise_shares} hospitals"
    return (
        f"**{facts.spec.name}** version {facts.model_version}, {facts.spec.architecture.kind}, for "
        f"*{facts.purpose}*: {plan.rounds} rounds, {facts.strategy['kind']}; epsilon up to "
        f"{facts.epsilon:.3g} at delta {plan.delta:g}, noise {noise}. No patient row has left a "
        "hospital."
    )


def package_version() -> str:
    """Returns the version of this package."""
    return version("fedmed")


def strategy_in_words(strategy: Mapping[str, Any]) -> str:
    """Returns a strategy with what is set of it, such as ``fedavgm (server_momentum 0.9)``."""
    fields = dict(_flat("", {k: v for k, v in strategy.items() if k != "kind"}))
    named = ", ".join(f"{name} {value}" for name, value in fields.items() if value != "none")
    return f"{strategy['kind']} ({named})" if named else str(strategy["kind"])


def _flat(prefix: str, fields: Mapping[str, Any]) -> dict[str, str]:
    return dict(_leaves(prefix, fields))


def _leaves(prefix: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(value, Mapping):
            yield from _leaves(path, value)
        else:
            yield path, _text(value)


def _text(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ",".join(_text(part) for part in value)
        case _:
            return str(value)
