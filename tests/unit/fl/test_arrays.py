"""Weights as Flower's arrays, and what training has changed."""

from __future__ import annotations

import numpy as np
import pytest

from fl.arrays import change_between, parameters_in, record_of, weights_in
from fl.errors import RoundError
from fl.weights import flatten, layout

WEIGHTS = {"z": np.arange(2, dtype=np.float32).reshape(2, 1), "a": np.zeros(3, np.float32)}


def test_weights_become_arrays_in_the_order_of_their_names() -> None:
    record = record_of(WEIGHTS)
    back = weights_in(record, like=layout(WEIGHTS))
    assert list(record) == list(back) == ["a", "z"]
    np.testing.assert_array_equal(back["z"], WEIGHTS["z"])
    for other in ({**WEIGHTS, "a": np.zeros(4, np.float32)}, {"z": WEIGHTS["z"]}):
        with pytest.raises(RoundError, match="names or shapes"):
            weights_in(record, like=layout(other))


def test_the_change_is_that_of_the_flattened_weights() -> None:
    after = {name: array + np.float32(0.5) * (1 + array) for name, array in WEIGHTS.items()}
    incoming = record_of(WEIGHTS)
    assert parameters_in(incoming) == 5
    change = change_between(record_of(after), incoming)
    assert change.dtype == np.float32
    np.testing.assert_array_equal(change, flatten(after) - flatten(WEIGHTS))


def test_a_change_is_between_arrays_of_the_same_names_and_shapes() -> None:
    for other in ({**WEIGHTS, "a": np.zeros(4, np.float32)}, {"z": WEIGHTS["z"]}):
        with pytest.raises(RoundError, match="names or shapes"):
            change_between(record_of(other), record_of(WEIGHTS))
