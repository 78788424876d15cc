"""The benchmark of masking compares rounds that give the same mean."""

from __future__ import annotations

import numpy as np
import pytest

from deployments.bench.flower_secagg import CLIPPING_RANGE, TARGET_RANGE, flower_round
from deployments.bench.secagg import compared, keystream_s, our_round, sum_parameters


@pytest.mark.parametrize(("parties", "lost"), [(3, 0), (5, 1), (10, 1)])
def test_ours_and_flower_s_give_the_mean_of_the_survivors(parties: int, lost: int) -> None:
    vectors = np.random.default_rng(0).normal(0, 0.1, (parties, 200)).astype(np.float32)
    exact = vectors[: parties - lost].mean(axis=0, dtype=np.float64)
    parameters = sum_parameters(parties, 200)

    cost, ours = our_round(parameters, vectors, lost=lost)
    assert ours.parties == tuple(range(1, parties + 1 - lost))
    assert np.abs(ours.mean - exact).max() <= parameters.step
    assert cost.upload_bytes == 4 * parameters.length
    assert min(cost.client_s, cost.server_s) > 0

    cost, theirs = flower_round(parties=parties, lost=lost, vectors=vectors, masking=parties)
    # Flower scales by weight / largest weight before it quantises: its steps are a thousand times
    # as wide, and its ratio is rounded.
    step = 2 * CLIPPING_RANGE / TARGET_RANGE * 1000
    assert np.abs(theirs - exact).max() <= step
    assert cost.upload_bytes > 8 * 200
    assert min(cost.client_s, cost.server_s) > 0


def test_a_case_gives_five_figures_without_goals_when_it_is_small() -> None:
    figures = compared(parties=3, dimension=10**5, lost=0)
    assert len(figures) == 5
    assert {figure.goal for figure in figures} == {None}
    assert all(figure.value > 0 for figure in figures)


def test_more_keystream_takes_longer() -> None:
    assert keystream_s(100 << 20) > keystream_s(1 << 20) > 0
