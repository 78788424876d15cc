from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from privacy.errors import ParametersRefused
from privacy.secagg.parameters import SumParameters, least_quorum

GOOD = SumParameters(
    session=bytes(16), roster=(1, 2, 3, 4, 5), quorum=4, dimension=10, counters=2, max_weight=9
)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"session": bytes(15)}, "session: 16 bytes"),
        ({"session": "0123456789abcdef"}, "session: 16 bytes"),
        ({"roster": (1, 2, 4)}, "roster: indices must run"),
        ({"roster": (0, 1, 2)}, "roster: indices must run"),
        ({"roster": (2, 1, 3)}, "roster: indices must run"),
        ({"roster": (1, 2), "quorum": 2}, "roster: 2 must lie in 3 to 256"),
        ({"roster": tuple(range(1, 258)), "quorum": 200}, "roster: 257"),
        ({"quorum": 2}, "quorum: 2 must lie in 3 to 5"),
        ({"quorum": 6}, "quorum: 6 must lie in 3 to 5"),
        ({"quorum": 3.0}, "quorum: 3.0"),
        ({"quorum": 3, "colluding": 1}, "quorum: 3 is too low for 5 parties of which 1 .* take 4"),
        ({"roster": (1, 2, 3), "quorum": 3, "colluding": 2}, "quorum: 3 is too low"),
        ({"roster": tuple(range(1, 11)), "quorum": 5}, "quorum: 5 is too low for 10"),
        ({"colluding": -1}, "colluding: -1"),
        ({"dimension": -1}, "dimension: -1"),
        ({"dimension": 2**30 + 1}, "dimension: "),
        ({"dimension": True}, "dimension: True"),
        ({"counters": -1}, "counters: -1"),
        ({"bits": 3}, "bits: 3"),
        ({"bits": 25}, "bits: 25"),
        ({"max_weight": 0}, "max_weight: 0"),
        ({"max_weight": 2**32}, "max_weight: "),
        ({"clip": 0.0}, "clip: 0.0"),
        ({"clip": -1.0}, "clip: -1.0"),
        ({"clip": float("nan")}, "clip: nan"),
        ({"clip": float("inf")}, "clip: inf"),
        ({"clip": 1e-9}, "clip: 1e-09"),
        ({"noise_std": -1.0}, r"noise_std: -1\.0 must lie in 0 to 2\^32"),
        ({"noise_std": float("nan")}, "noise_std: nan"),
        ({"noise_std": 1e8}, r"noise_std: 5 vectors .* 1e\+08 steps, reach \d+, beyond 2\^31"),
        ({"least_count": 1}, "least_count: 1 must lie in -4294967295 to 0"),
        ({"least_count": -(2**32)}, "least_count: "),
    ],
)
def test_refused(change, named):
    with pytest.raises(ParametersRefused, match=named):
        replace(GOOD, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"session": b"\1" * 16},
        {"roster": (1, 2, 3, 4)},
        {"quorum": 5},
        {"colluding": 1},
        {"dimension": 11},
        {"counters": 3},
        {"bits": 19},
        {"clip": 2.0},
        {"max_weight": 8},
        {"noise_std": 0.5},
        {"least_count": -1},
    ],
)
def test_the_encoding_shows_every_field(change):
    assert replace(GOOD, **change).encode() != GOOD.encode()
    assert replace(GOOD).encode() == GOOD.encode()


@example(parties=256, bits=24, noise_std=0.0)
@example(parties=256, bits=24, noise_std=2.0)
@given(
    parties=st.integers(3, 256),
    bits=st.integers(4, 24),
    noise_std=st.one_of(st.just(0.0), st.floats(0, 1e5)),
)
def test_the_modulus_holds_the_largest_sum_and_its_noise(parties, bits, noise_std):
    given = {"roster": tuple(range(1, parties + 1)), "quorum": least_quorum(parties)}
    given |= {"session": bytes(16), "dimension": 1, "bits": bits, "noise_std": noise_std}
    if parties * (2 ** (bits - 1) - 1) + math.ceil(10 * parties**0.5 * noise_std) >= 2**31:
        with pytest.raises(ParametersRefused, match=r"noise_std: .*beyond 2\^31"):
            SumParameters(**given)
        return
    value = SumParameters(**given)
    half = 2 ** (8 * value.dtype.itemsize - 1)
    assert parties * value.largest + 10 * parties**0.5 * noise_std < half
    assert parties * 255 < 2 * half
    assert value.dtype in (np.uint16, np.uint32)


@given(parties=st.integers(3, 256), data=st.data())
def test_the_least_quorum_keeps_the_rules(parties, data):
    colluding = data.draw(st.integers(0, parties - 2))
    quorum = least_quorum(parties, colluding)
    assert 2 * quorum > parties + colluding
    assert quorum >= max(3, colluding + 2)


def test_length():
    assert GOOD.length == 10 + 4 + 2 * 4
    assert replace(GOOD, dimension=0, counters=0).length == 4
