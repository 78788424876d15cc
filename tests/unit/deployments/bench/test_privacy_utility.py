"""The benchmark of accuracy under noise: its plans keep to the epsilon it names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deployments.bench import privacy_utility as bench
from privacy.gaussian_dp import epsilon_of


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL", "SHARED"):
        monkeypatch.setattr(bench, name, replace(getattr(bench, name), rounds=2))


def test_every_plan_costs_the_epsilon_named_and_no_more() -> None:
    for shares in (1, bench.MOST_SHARES):
        plan = bench.plan_of(shares=shares)
        mu = np.sqrt(plan.rounds * plan.steps_per_round) / plan.noise_multiplier
        assert epsilon_of(mu, delta=plan.delta) == pytest.approx(bench.EPSILON, rel=1e-6)


def test_each_deal_has_five_hospitals_of_a_hundred_and_tests_on_the_rest() -> None:
    deal = bench.dealt(3)
    assert [len(table) for table in deal.hospitals] == [100] * 5
    assert len(deal.test) == 69
    everything = np.concatenate([deal.test.features, *(t.features for t in deal.hospitals)])
    assert everything.shape == (569, 30)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("shares", [1, 3, 4])
def test_a_deal_is_trained_the_same_under_the_same_seed(shares: int) -> None:
    deal = bench.dealt(0)
    weights = bench.trained(deal, 0, shares=shares)
    assert np.array_equal(weights, bench.trained(deal, 0, shares=shares))
    assert 0 < bench.accuracy(weights, deal.test) < 1


def test_without_privacy_the_linear_model_is_good() -> None:
    assert bench.without_privacy(bench.dealt(0)) > 0.9
