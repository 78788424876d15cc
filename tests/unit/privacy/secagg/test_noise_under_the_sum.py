"""Noise that each party adds to its integers: the sum carries the survivors' shares in full."""

from __future__ import annotations

import math

import numpy as np
import pytest

from privacy.discrete import discrete_gaussian, share_std
from privacy.errors import InputRefused
from privacy.noise import SecureGenerator

DIMENSION = 4000
PROMISED = 60.0  # of the sum over three honest parties of five; one more may be lost


@pytest.mark.parametrize("lost", [(), (2,)])
def test_the_survivors_shares_are_in_the_sum_and_enough_of_them(make_session, lost):
    std = share_std(PROMISED, shares=3, dimension=DIMENSION)
    session = make_session(5, quorum=4, colluding=1, dimension=DIMENSION, noise_std=std)
    noise = {
        index: discrete_gaussian(SecureGenerator.seeded(index), DIMENSION, std=std)
        for index in session.parameters.roster
    }
    views = session.begin()
    for index, view in views.items():
        if index not in lost:
            session.coordinator.add(session.upload(index, view, noise=noise[index]))
    survivors = session.coordinator.close()
    certificate = session.certificate(survivors)
    result = session.coordinator.finish(
        [session.hospitals[i].reveal(1, view, certificate) for i, view in survivors.items()]
    )

    expected = sum(noise[index] for index in result.parties)
    step = session.parameters.step
    total = result.mean.astype(np.float64) * len(result.parties) / step
    assert np.abs(total - expected).max() < 1e-3  # vectors of zeros: nothing else is in the sum
    honest = sum(noise[index] for index in result.parties[:-1])  # one party colludes
    assert honest.std() >= PROMISED * (1 - 5 / math.sqrt(2 * DIMENSION))


def test_no_upload_leaves_without_the_noise_agreed_on(make_session):
    session = make_session(noise_std=20.0)
    views = session.begin()
    with pytest.raises(InputRefused, match="noise: the parties agreed on a deviation of 20 steps"):
        session.upload(1, views[1])
    session.upload(1, views[1], noise=np.zeros(10, np.int64))  # the round is still open
