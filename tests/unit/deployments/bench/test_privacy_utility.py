"""The benchmark of accuracy under noise: its plans keep to the epsilon it names."""

from __future__ import annotations

import numpy as np
import pytest

from deployments.bench import privacy_utility as bench
from fl.weights import encode_weights
from privacy.pricing import price


@pytest.mark.parametrize("shares", [1, 3, 4])
def test_every_plan_costs_no_more_than_the_epsilon_named(shares: int) -> None:
    plan = bench.course_of(shares=shares).plan
    assert plan.noise_shares == shares
    assert 0.8 * bench.EPSILON < price(plan).epsilon <= bench.EPSILON


def test_each_deal_has_five_hospitals_of_a_hundred_and_tests_on_the_rest() -> None:
    deal = bench.dealt(3)
    assert [len(table) for table in deal.hospitals] == [100] * 5
    assert len(deal.test) == 69
    everything = np.concatenate([deal.test.features, *(t.features for t in deal.hospitals)])
    assert everything.shape == (569, 30)


@pytest.mark.parametrize("shares", [1, 4])
def test_a_deal_is_trained_the_same_under_the_same_seed(shares: int) -> None:
    deal, course = bench.dealt(0), bench.course_of(shares=shares, rounds=2)
    weights = bench.trained(deal, 0, course=course)
    assert encode_weights(weights) == encode_weights(bench.trained(deal, 0, course=course))
    assert 0 < bench.accuracy(weights, deal.test) < 1


def test_without_privacy_the_linear_model_is_good() -> None:
    assert bench.without_privacy(bench.dealt(0)) > 0.9
