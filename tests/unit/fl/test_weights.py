"""Weights as bytes, hashes and vectors: one order, one spelling, nothing lost."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fl.errors import ModelError, WireError
from fl.weights import (
    Weights,
    WeightsLayout,
    check_layout,
    decode_weights,
    encode_weights,
    flatten,
    layout,
    unflatten,
    weights_hash,
)
from fl.wire import pack

some_weights = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
    npst.arrays(
        np.float32,
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    max_size=4,
)

WEIGHTS: Weights = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([-1, -2], np.float32),
}


def same(one: Weights, two: Weights) -> bool:
    return set(one) == set(two) and all(
        np.array_equal(one[name], two[name]) and one[name].shape == two[name].shape for name in one
    )


@given(some_weights)
def test_bytes_and_vectors_give_the_weights_back(weights: Weights) -> None:
    assert same(decode_weights(encode_weights(weights)), weights)
    vector = flatten(weights)
    assert vector.shape == (layout(weights).size,)
    assert same(unflatten(vector, layout(weights)), weights)


def test_the_order_is_that_of_the_names() -> None:
    backwards = dict(reversed(list(WEIGHTS.items())))
    assert encode_weights(backwards) == encode_weights(WEIGHTS)
    assert flatten(WEIGHTS).tolist() == [-1, -2, 0, 1, 2, 3, 4, 5]
    assert flatten(backwards).tolist() == flatten(WEIGHTS).tolist()
    assert layout(WEIGHTS) == WeightsLayout(("b", "w"), ((2,), (2, 3)))
    assert list(decode_weights(encode_weights(WEIGHTS))) == ["b", "w"]


def test_a_transposed_array_is_the_same_weights() -> None:
    view = {**WEIGHTS, "w": np.asfortranarray(WEIGHTS["w"])}
    assert encode_weights(view) == encode_weights(WEIGHTS)
    assert flatten(view).tolist() == flatten(WEIGHTS).tolist()


def test_the_hash_is_the_sha_256_of_the_bytes() -> None:
    data = encode_weights(WEIGHTS)
    assert weights_hash(data) == hashlib.sha256(data).hexdigest()


def test_what_unflatten_returns_is_its_own() -> None:
    vector = flatten(WEIGHTS)
    weights = unflatten(vector, layout(WEIGHTS))
    vector[:] = 0
    assert same(weights, WEIGHTS)


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(ModelError, match=r"shape \(7,\): the layout has 8"):
        unflatten(np.zeros(7, np.float32), layout(WEIGHTS))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"w": np.zeros((3, 2), np.float32)}, r"'w': shape \(3, 2\), expected \(2, 3\)"),
        ({"w": np.zeros((2, 3))}, "'w': float64, expected float32"),
        ({"v": np.zeros(1, np.float32)}, r"unknown \['v'\]"),
    ],
)
def test_weights_of_another_layout_are_refused(changed: Weights, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_layout({**WEIGHTS, **changed}, layout(WEIGHTS))


def test_missing_weights_are_named() -> None:
    with pytest.raises(ModelError, match=r"missing \['b'\]"):
        decode_weights(encode_weights({"w": WEIGHTS["w"]}), like=layout(WEIGHTS))


def test_only_float32_is_encoded() -> None:
    with pytest.raises(ModelError, match="float64"):
        encode_weights({"w": np.zeros(2)})  # type: ignore[dict-item]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_diverged_are_not_encoded(value: float) -> None:
    with pytest.raises(WireError):
        encode_weights({"w": np.array([value], np.float32)})


def test_bytes_that_are_no_weights_are_refused() -> None:
    data = encode_weights(WEIGHTS)
    ones = np.ones(1, np.float32)
    for bad in (b"", data[:-1], data + b"\0", pack("update", {}, {"w": ones})):
        with pytest.raises(WireError):
            decode_weights(bad)
    with pytest.raises(WireError):
        decode_weights(data, max_bytes=len(data) - 1)
    with pytest.raises(ModelError, match="order of their names"):
        decode_weights(pack("weights", {}, {"w": ones, "b": ones}))
    with pytest.raises(ModelError, match="int64"):
        decode_weights(pack("weights", {}, {"w": np.ones(1, np.int64)}))


def test_a_layout_with_names_out_of_order_is_refused() -> None:
    for names in (("w", "b"), ("b", "b"), ("b",)):
        with pytest.raises(ModelError, match="sorted"):
            WeightsLayout(names, ((1,), (1,)))


def test_pytorch_is_not_needed() -> None:
    code = "import sys, fl.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
