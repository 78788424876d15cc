from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privacy.errors import InputRefused, ProtocolError
from privacy.secagg import SumParameters
from privacy.secagg.masking import BLOCK_ELEMENTS
from privacy.secagg.quantiser import Quantiser, read_sum

PARAMETERS = SumParameters(
    session=bytes(16), roster=(1, 2, 3), quorum=3, dimension=5, counters=2, max_weight=100
)


def quantise(
    vector, *, parameters=PARAMETERS, weight=100, counts=(0, 0), key=bytes(32), noise=None
):
    quantiser = Quantiser(
        np.asarray(vector, np.float32),
        weight=weight,
        counts=np.array(counts, np.int64),
        parameters=parameters,
        rounding_key=key,
        noise=noise,
    )
    elements = np.empty(parameters.length, parameters.dtype)
    for start in range(0, len(elements), BLOCK_ELEMENTS):
        quantiser.fill(start, elements[start : start + BLOCK_ELEMENTS])
    return elements


def signed(elements, dimension):
    return elements[:dimension].view(f"i{elements.itemsize}").astype(np.int64)


@given(
    vector=hnp.arrays(np.float32, 5, elements=st.floats(-3, 3, width=32)),
    weight=st.integers(0, 100),
    bits=st.integers(4, 24),
    clip=st.sampled_from([0.01, 0.3, 1.0, 2.5]),
    key=st.binary(min_size=32, max_size=32),
)
def test_each_element_is_off_by_less_than_one(vector, weight, bits, clip, key):
    parameters = replace(PARAMETERS, bits=bits, clip=clip)
    found = signed(quantise(vector, parameters=parameters, weight=weight, key=key), 5)
    clipped = np.clip(vector.astype(np.float64), -clip, clip)
    exact = clipped * weight / 100 / parameters.step
    float32 = np.abs(exact) * 2.0**-23 if bits <= 20 else 0.0
    assert (np.abs(found - exact) < 1 + float32).all()
    assert np.abs(found).max() <= parameters.largest


def test_rounding_is_right_on_average():
    parameters = replace(PARAMETERS, dimension=200_000, bits=8)
    for target in (0.3, -0.3, 0.001, -41.75):
        vector = np.full(200_000, target * parameters.step, np.float32)
        found = signed(quantise(vector, parameters=parameters), 200_000)
        assert set(found) == {np.floor(target), np.ceil(target)}
        assert found.mean() == pytest.approx(target, abs=5 * 0.5 / np.sqrt(200_000))


def test_whole_steps_are_exact():
    parameters = replace(PARAMETERS, bits=10, clip=511.0)
    vector = [511, -511, 0, 1, -1]
    assert signed(quantise(vector, parameters=parameters), 5).tolist() == vector


def test_elements_beyond_the_clip_are_clipped_even_the_largest():
    found = signed(quantise([3e38, -3e38, 1.0, -1.0, 0.0], weight=50), 5)
    half = PARAMETERS.largest / 2
    assert np.abs(found[:4] - np.array([half, -half, half, -half])).max() < 1


def test_weight_and_counts_follow_as_digits():
    elements = quantise(np.zeros(5), weight=7, counts=(0x01020304, 2**32 - 1))
    assert elements[5:].tolist() == [7, 0, 0, 0, 4, 3, 2, 1, 255, 255, 255, 255]


@given(
    weights=st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3),
    counts=st.lists(
        st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=2), min_size=3, max_size=3
    ),
    bits=st.sampled_from([12, 20]),
)
def test_weights_and_counts_add_up_exactly(weights, counts, bits):
    parameters = replace(PARAMETERS, bits=bits, max_weight=2**32 - 1)
    total = sum(
        quantise(np.zeros(5), parameters=parameters, weight=weight, counts=count)
        for weight, count in zip(weights, counts, strict=True)
    )
    result = read_sum(total, parameters=parameters, parties=(1, 2, 3))
    assert result.weight == sum(weights)
    assert result.counts.tolist() == [sum(column) for column in zip(*counts, strict=True)]


@pytest.mark.parametrize("dimension", [BLOCK_ELEMENTS - 1, BLOCK_ELEMENTS, BLOCK_ELEMENTS + 1])
def test_vector_and_digits_may_meet_anywhere_in_a_block(dimension):
    parameters = replace(PARAMETERS, dimension=dimension)
    elements = quantise(np.ones(dimension), parameters=parameters, weight=100, counts=(1, 258))
    assert set(elements[:dimension]) == {parameters.largest}
    assert elements[dimension:].tolist() == [100, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0]


@given(
    counts=st.lists(
        st.lists(st.integers(-100, 2**32 - 101), min_size=2, max_size=2), min_size=3, max_size=3
    )
)
def test_counts_below_zero_add_up_exactly_when_that_was_agreed_on(counts):
    parameters = replace(PARAMETERS, least_count=-100)
    total = sum(quantise(np.zeros(5), parameters=parameters, counts=count) for count in counts)
    result = read_sum(total, parameters=parameters, parties=(1, 2, 3))
    assert result.counts.tolist() == [sum(column) for column in zip(*counts, strict=True)]


@given(
    vector=hnp.arrays(np.float32, 5, elements=st.floats(-3, 3, width=32)),
    noise=hnp.arrays(np.int64, 5, elements=st.integers(-(10**6), 10**6)),
    bits=st.sampled_from([8, 20, 24]),
    key=st.binary(min_size=32, max_size=32),
)
def test_noise_goes_on_the_integers_after_the_clip(vector, noise, bits, key):
    noisy = replace(PARAMETERS, bits=bits, noise_std=1e5)
    plain = signed(quantise(vector, parameters=replace(noisy, noise_std=0.0), key=key), 5)
    found = signed(quantise(vector, parameters=noisy, key=key, noise=noise), 5)
    modulus = 2 ** (8 * noisy.dtype.itemsize)
    assert not ((found - plain - noise) % modulus).any()


@given(
    pair=hnp.arrays(np.float32, (2, 40), elements=st.floats(-2, 2, width=32)),
    key=st.binary(min_size=32, max_size=32),
    bits=st.sampled_from([4, 12, 20]),
)
def test_rounding_adds_at_most_the_root_of_the_dimension_to_a_change(pair, key, bits):
    """Whatever the rounding's own bits are: the sensitivity of what noise is added to."""
    parameters = replace(PARAMETERS, dimension=40, bits=bits)
    one, other = (signed(quantise(v, parameters=parameters, key=key), 40) for v in pair)
    exact = np.linalg.norm(pair[0].astype(np.float64) - pair[1]) / parameters.step
    assert np.linalg.norm(one - other) <= exact + 1.5 * np.sqrt(40)


def test_only_counts_may_be_summed():
    parameters = replace(PARAMETERS, dimension=0)
    result = read_sum(
        quantise([], parameters=parameters, counts=(1, 2)), parameters=parameters, parties=(1,)
    )
    assert result.mean.shape == (0,)
    assert result.mean.dtype == np.float32
    assert (result.weight, result.counts.tolist()) == (100, [1, 2])


def test_a_sum_of_no_weight_has_a_mean_of_zero():
    total = quantise(np.ones(5), weight=0)
    result = read_sum(total, parameters=PARAMETERS, parties=(1,))
    assert (result.weight, result.mean.tolist()) == (0, [0.0] * 5)


def test_the_mean_is_weighted():
    parameters = replace(PARAMETERS, bits=24)
    total = quantise(np.full(5, 0.5), parameters=parameters, weight=100)
    total += quantise(np.full(5, -0.5), parameters=parameters, weight=25)
    result = read_sum(total, parameters=parameters, parties=(1, 2))
    exact = float(Fraction(100 - 25, 2 * 125))
    assert result.mean == pytest.approx(exact, abs=2 * parameters.step)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"vector": np.zeros(4, np.float32)}, r"vector: shape \(4,\) does not fit"),
        ({"vector": np.zeros((5, 1), np.float32)}, "vector: shape"),
        ({"vector": np.zeros(5)}, "vector: an array of float32 is needed, not float64"),
        ({"vector": [0.0] * 5}, "vector: an array of float32 is needed, not list"),
        ({"vector": np.array([0, np.nan, 0, 0, 0], np.float32)}, "vector: it holds NaN"),
        ({"vector": np.array([0, np.inf, 0, 0, 0], np.float32)}, "vector: it holds NaN"),
        ({"weight": -1}, "weight: it must lie in 0 to 100"),
        ({"weight": 101}, "weight: it must lie in 0 to 100"),
        ({"weight": 1.5}, "weight: an int is needed, not float"),
        ({"weight": True}, "weight: an int is needed, not bool"),
        ({"counts": np.zeros(3, np.int64)}, r"counts: shape \(3,\) does not fit"),
        ({"counts": np.zeros(2)}, "counts: integers are needed, not float64"),
        ({"counts": np.array([0, -1])}, "counts: each must lie in 0 to 4294967295"),
        ({"counts": np.array([0, 2**32])}, "counts: each must lie in 0 to 4294967295"),
        ({"noise": np.zeros(5, np.int64)}, "noise: the parties agreed on none"),
    ],
)
def test_refused(change, named):
    good = {"vector": np.zeros(5, np.float32), "weight": 1, "counts": np.zeros(2, np.int64)}
    with pytest.raises(InputRefused, match=named):
        Quantiser(**(good | change), parameters=PARAMETERS, rounding_key=bytes(32))


@pytest.mark.parametrize(
    ("noise", "named"),
    [
        (None, "noise: the parties agreed on a deviation of 7 steps"),
        (np.zeros(4, np.int64), r"noise: int64 of shape \(5,\) is needed, not int64 of shape"),
        (np.zeros(5), "noise: int64 of shape .* not float64"),
    ],
)
def test_noise_that_was_agreed_on_cannot_be_left_out_or_be_another(noise, named):
    with pytest.raises(InputRefused, match=named):
        quantise(np.zeros(5), parameters=replace(PARAMETERS, noise_std=7.0), noise=noise)


@pytest.mark.parametrize(
    ("position", "value"), [(0, 2**25), (4, 2**32 - 2**25), (5, 256 * 3), (6, 2), (9, 766)]
)
def test_a_sum_that_no_parties_can_have_sent_is_refused(position, value):
    """An element, a digit or the weight beyond what three parties can reach."""
    total = np.zeros(PARAMETERS.length, PARAMETERS.dtype)
    total[position] = value
    with pytest.raises(ProtocolError, match=r"sum over parties \[1, 2, 3\] lies outside"):
        read_sum(total, parameters=PARAMETERS, parties=(1, 2, 3))


def test_noise_widens_what_a_sum_may_reach():
    total = np.zeros(PARAMETERS.length, PARAMETERS.dtype)
    total[0] = 3 * PARAMETERS.largest + 150
    noisy = replace(PARAMETERS, noise_std=10.0)
    assert read_sum(total, parameters=noisy, parties=(1, 2, 3)).mean[0] > 0
    total[0] += 30
    with pytest.raises(ProtocolError, match="lies outside"):
        read_sum(total, parameters=noisy, parties=(1, 2, 3))
