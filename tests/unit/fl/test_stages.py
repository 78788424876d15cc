"""The stages of a training, and the recipes that leave nothing open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.architecture_spec import (
    Architecture,
    Cnn,
    HogLogistic,
    Logistic,
    Mlp,
    ResNet18,
)
from fl.recipes import completed, recipe_for
from fl.spec import TrainingRequest
from fl.stages import stage_of, statistic_rounds
from fl.strategy_spec import FedProx
from privacy.calibration import plan_for
from privacy.plan import PrivacyPlan, PrivacyRequest
from privacy.pricing import epsilon_of_plan

ARCHITECTURES = (Logistic(), Mlp(), HogLogistic(), Cnn(), ResNet18())


def plan(rounds: int, *, sampling_rate: float = 1.0) -> PrivacyPlan:
    return PrivacyPlan(
        clip_norm=1,
        noise_multiplier=1,
        evaluation_noise_multiplier=1,
        sampling_rate=sampling_rate,
        expected_batch_size=8,
        steps_per_round=1,
        rounds=rounds,
        delta=1e-5,
    )


@given(rounds=st.integers(1, 1000))
def test_stages_come_in_order_and_leave_rounds_to_train(rounds: int) -> None:
    kinds = [stage_of(Logistic(), plan(rounds), done=done).kind for done in range(rounds)]
    centre, spread = kinds.count("centre"), kinds.count("spread")
    assert kinds == ["centre"] * centre + ["spread"] * spread + ["train"] * (
        rounds - centre - spread
    )
    assert centre + spread == statistic_rounds(Logistic(), rounds) < rounds
    assert spread == 0 or centre > 0


def test_a_stage_knows_its_place() -> None:
    stages = [stage_of(Logistic(), plan(20), done=done) for done in range(20)]
    assert [(s.kind, s.place, s.rounds) for s in stages[2:6]] == [
        ("centre", 2, 4),
        ("centre", 3, 4),
        ("spread", 0, 3),
        ("spread", 1, 3),
    ]
    assert [s.radius for s in stages[:4]] == [1.0, 0.5, 0.35, 0.35]
    assert (stages[-1].kind, stages[-1].place, stages[-1].rounds) == ("train", 12, 13)


@pytest.mark.parametrize(
    ("architecture", "rate"), [(Logistic(standardise=False), 1.0), (Cnn(), 1.0), (Logistic(), 0.1)]
)
def test_what_does_not_standardise_or_samples_trains_at_once(
    architecture: Architecture, rate: float
) -> None:
    assert stage_of(architecture, plan(20, sampling_rate=rate), done=0).kind == "train"


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.kind)
@pytest.mark.parametrize("epsilon", [None, 0.5, 1.0, 3.0, 8.0, 20.0])
def test_a_recipe_stays_under_the_epsilon(
    architecture: Architecture, epsilon: float | None
) -> None:
    request = TrainingRequest(model="m", privacy=PrivacyRequest(epsilon=epsilon, delta=1e-3))
    complete = completed(request, architecture)
    found = plan_for(complete.privacy, rounds=complete.rounds)
    assert epsilon_of_plan(found) <= (epsilon or 8.0) + 1e-9
    assert found.all_evaluations == 4
    first = next(r for r in range(complete.rounds + 1) if found.evaluates_after(r))
    assert first >= statistic_rounds(architecture, complete.rounds)
    assert found.evaluates_after(complete.rounds)


def test_what_is_asked_for_is_kept() -> None:
    asked = PrivacyRequest(epsilon=1, clip_norm=2.0, steps_per_round=3, evaluations=2)
    request = TrainingRequest(model="m", rounds=7, strategy=FedProx(), privacy=asked)
    complete = completed(request, Logistic())
    assert (complete.rounds, complete.strategy) == (7, FedProx())
    assert (complete.privacy.clip_norm, complete.privacy.steps_per_round) == (2.0, 3)
    assert complete.privacy.evaluations == 2


def test_shared_noise_takes_one_step_on_all_rows() -> None:
    request = TrainingRequest(model="m", privacy=PrivacyRequest(epsilon=1, noise_shares=2))
    complete = completed(request, Cnn())
    assert (complete.privacy.sampling_rate, complete.privacy.steps_per_round) == (1.0, 1)


def test_smaller_epsilons_take_smaller_steps() -> None:
    steps = [recipe_for(Logistic(), epsilon=e).strategy.step for e in (1, 3, 8)]  # type: ignore[union-attr]
    assert steps == sorted(steps)
    assert recipe_for(Logistic(), epsilon=None) == recipe_for(Logistic(), epsilon=8)
