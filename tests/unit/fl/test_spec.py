"""The learning rate under a plan: public, and short enough for the plan's noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.spec import Hyperparameters
from privacy.plan import PrivacyPlan

PLAN = PrivacyPlan(
    clip_norm=0.5,
    noise_multiplier=8.0,
    sampling_rate=1.0,
    expected_batch_size=100,
    evaluation_noise_multiplier=4.0,
    steps_per_round=4,
    rounds=1,
    delta=1e-5,
)


def test_without_a_limit_it_is_the_models() -> None:
    assert Hyperparameters(learning_rate=3.0).learning_rate_under(PLAN) == 3.0


def test_little_noise_leaves_it_as_it_is() -> None:
    limited = Hyperparameters(learning_rate=0.1, noise_limit=0.1)
    assert limited.learning_rate_under(PLAN) == 0.1


def test_much_noise_shortens_it_and_shared_noise_less() -> None:
    limited = Hyperparameters(learning_rate=10.0, momentum=0.5, noise_limit=0.1)
    # A step's noise is 0.5 * 8 / 100, a round's twice that, and momentum doubles it.
    assert limited.learning_rate_under(PLAN) == pytest.approx(0.1 / (0.04 * 2 * 2))
    shared = PLAN.model_copy(update={"noise_shares": 4})
    assert limited.learning_rate_under(shared) == pytest.approx(2 * 0.1 / (0.04 * 2 * 2))


@given(
    momentum=st.floats(0, 0.95),
    steps=st.integers(1, 30),
    noise=st.floats(0.3, 100),
)
def test_a_rounds_noise_stays_within_the_limit(momentum: float, steps: int, noise: float) -> None:
    plan = PLAN.model_copy(update={"steps_per_round": steps, "noise_multiplier": noise})
    limited = Hyperparameters(learning_rate=1000.0, momentum=momentum, noise_limit=0.2)
    rate = limited.learning_rate_under(plan)
    # The noise of step i reaches the weights through all later steps' momentum.
    reach = np.array([(1 - momentum**left) / (1 - momentum) for left in range(1, steps + 1)])
    deviation = rate * noise * 0.5 / 100 * np.sqrt(np.sum(reach**2))
    assert deviation <= 0.2 * (1 + 1e-9)
