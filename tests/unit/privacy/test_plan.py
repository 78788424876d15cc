"""Which plans and requests are valid."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from privacy.plan import PrivacyPlan, PrivacyRequest

SHARED: dict[str, Any] = {
    "clip_norm": 0.5,
    "noise_multiplier": 6.0,
    "noise_shares": 4,
    "evaluation_noise_multiplier": 4.0,
    "sampling_rate": 1.0,
    "expected_batch_size": 32,
    "steps_per_round": 1,
    "rounds": 10,
    "delta": 1e-5,
}


def test_noise_is_shared_by_plans_of_one_step_on_all_records() -> None:
    assert PrivacyPlan(**SHARED).noise_shares == 4
    for steps in (None, 1):
        request = PrivacyRequest(noise_shares=4, sampling_rate=1, steps_per_round=steps)
        assert request.noise_shares == 4


@pytest.mark.parametrize("broken", [{"sampling_rate": 0.5}, {"steps_per_round": 2}])
def test_other_plans_cannot_share_their_noise(broken: dict[str, Any]) -> None:
    message = r"noise_shares 4: .* needs sampling_rate 1 and steps_per_round 1, not"
    with pytest.raises(ValidationError, match=message):
        PrivacyPlan(**{**SHARED, **broken})
    with pytest.raises(ValidationError, match=message):
        PrivacyRequest(**{"noise_shares": 4, "sampling_rate": 1, "steps_per_round": 1, **broken})
    alone = {**SHARED, **broken, "noise_shares": 1}
    assert PrivacyPlan(**alone).noise_shares == 1


def test_epsilon_and_noise_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="not both"):
        PrivacyRequest(epsilon=3, noise_multiplier=1)


def test_a_training_takes_no_more_than_a_hundred_thousand_steps() -> None:
    most = {**SHARED, "noise_shares": 1, "steps_per_round": 1000, "rounds": 100}
    assert PrivacyPlan(**most).rounds == 100
    with pytest.raises(ValidationError, match="101 rounds of 1000 steps: 101000 steps are more"):
        PrivacyPlan(**{**most, "rounds": 101})
