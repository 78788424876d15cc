"""Averaged descent: what a training stands at is the mean of its iterates, wherever it goes on."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fl.records import decode_record, encode_record
from fl.rounds import RoundState, aggregate, configure
from fl.strategies import build_strategy
from fl.strategy_spec import Averaged
from fl.weights import Weights, flatten

INITIAL: Weights = {"w": np.array([[0.5, -0.25]], np.float32), "b": np.array([0.125], np.float32)}

steps_of = st.lists(
    st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3), min_size=1, max_size=12
).map(lambda steps: np.array(steps, np.float32))


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> None:
    logging.getLogger("flwr").setLevel(logging.ERROR)


def trained(
    steps: NDArray[np.float32], *, average_from: float, fresh: bool = True
) -> NDArray[np.float32]:
    """Returns the weights after each round, (rounds, 3), each round's step being given."""
    spec, state = Averaged(average_from=average_from), RoundState(1, INITIAL)
    stood: list[NDArray[np.float32]] = []
    for place, step in enumerate(steps):
        strategy = build_strategy(spec, place=place, rounds=len(steps))
        asked = configure(strategy, state)
        if fresh:  # the coordinator began anew in the middle of the round
            strategy = build_strategy(spec, place=place, rounds=len(steps))
        state = aggregate(strategy, asked, mean_update=step, weight=3).state
        if fresh:
            remembered = decode_record(encode_record(state.strategy_state))
            state = RoundState(state.number, state.weights, remembered)
        stood.append(flatten(state.weights))
    return np.array(stood)


@settings(max_examples=25, deadline=None)
@given(steps=steps_of)
def test_from_the_start_on_it_stands_at_the_mean_of_all_iterates(
    steps: NDArray[np.float32],
) -> None:
    iterates = flatten(INITIAL) + np.cumsum(steps, axis=0)
    means = np.cumsum(iterates, axis=0) / np.arange(1, len(steps) + 1)[:, None]
    np.testing.assert_allclose(trained(steps, average_from=0.0), means, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(steps=steps_of, average_from=st.floats(0, 0.99))
def test_before_its_share_of_the_rounds_it_stands_at_the_iterate(
    steps: NDArray[np.float32], average_from: float
) -> None:
    before = int(average_from * len(steps))
    iterates = flatten(INITIAL) + np.cumsum(steps, axis=0)
    stood = trained(steps, average_from=average_from)
    np.testing.assert_allclose(stood[:before], iterates[:before], atol=1e-5)
    np.testing.assert_allclose(stood[-1], iterates[before:].mean(axis=0), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(steps=steps_of, average_from=st.floats(0, 0.99))
def test_it_goes_on_bit_by_bit_from_what_was_saved(
    steps: NDArray[np.float32], average_from: float
) -> None:
    whole = trained(steps, average_from=average_from, fresh=False)
    resumed = trained(steps, average_from=average_from, fresh=True)
    assert np.array_equal(whole, resumed)
