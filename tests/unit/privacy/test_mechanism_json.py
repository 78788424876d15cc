"""Mechanisms as JSON: what is written is read again, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import UnknownMechanism
from privacy.mechanism_json import decode, encode
from privacy.mechanisms import Composed, Gaussian, Mechanism, PoissonSubsampledGaussian, Repeated

NOISE = st.floats(0.1, 100)
LEAVES = st.one_of(
    st.builds(Gaussian, NOISE),
    st.builds(PoissonSubsampledGaussian, NOISE, st.floats(0.001, 1)),
)
MECHANISMS = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.builds(Repeated, parts, st.integers(0, 1000)),
        st.builds(Composed, st.lists(parts, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@given(MECHANISMS)
def test_what_is_written_is_read_again(mechanism: Mechanism) -> None:
    assert decode(json.loads(json.dumps(encode(mechanism)))) == mechanism


def test_the_names_in_old_ledgers_stay() -> None:
    written = {
        "kind": "Composed",
        "parts": [
            {"kind": "Gaussian", "noise_multiplier": 2.0},
            {
                "kind": "Repeated",
                "mechanism": {
                    "kind": "PoissonSubsampledGaussian",
                    "noise_multiplier": 1.5,
                    "sampling_rate": 0.25,
                },
                "count": 4,
            },
        ],
    }
    read = Composed((Gaussian(2.0), Repeated(PoissonSubsampledGaussian(1.5, 0.25), 4)))
    assert decode(written) == read
    assert encode(read) == written


def test_whole_numbers_are_written_as_every_other() -> None:
    assert json.dumps(encode(Gaussian(2))) == json.dumps(encode(Gaussian(2.0)))


GAUSSIAN = {"kind": "Gaussian", "noise_multiplier": 2.0}


@pytest.mark.parametrize(
    "value",
    [
        None,
        "Gaussian",
        {},
        {"kind": 1},
        {"kind": ["Gaussian"], "noise_multiplier": 2.0},
        {"kind": "Laplace", "scale": 1.0},
        {"kind": "Gaussian"},
        {"kind": "Gaussian", "noise_multiplier": 2.0, "sensitivity": 2.0},
        {"kind": "Gaussian", "noise_multiplier": "2.0"},
        {"kind": "Gaussian", "noise_multiplier": True},
        {"kind": "Gaussian", "noise_multiplier": 0.0},
        {"kind": "Gaussian", "noise_multiplier": float("nan")},
        {"kind": "PoissonSubsampledGaussian", "noise_multiplier": 1.0, "sampling_rate": 2.0},
        {"kind": "Repeated", "mechanism": GAUSSIAN, "count": -1},
        {"kind": "Repeated", "mechanism": GAUSSIAN, "count": 1.5},
        {"kind": "Repeated", "mechanism": GAUSSIAN, "count": True},
        {"kind": "Repeated", "mechanism": GAUSSIAN},
        {"kind": "Repeated", "mechanism": GAUSSIAN, "count": 1, "more": 1},
        {"kind": "Repeated", "mechanism": {"kind": "Laplace"}, "count": 1},
        {"kind": "Composed", "parts": GAUSSIAN},
        {"kind": "Composed", "parts": [GAUSSIAN], "more": 1},
        {"kind": "Composed", "parts": [GAUSSIAN, {"kind": "Laplace"}]},
    ],
)
def test_what_has_no_price_is_refused(value: Any) -> None:
    with pytest.raises(UnknownMechanism):
        decode(value)


def test_what_cannot_be_read_again_is_not_written() -> None:
    class Gaussian:
        noise_multiplier = 1.0

    with pytest.raises(UnknownMechanism, match="Gaussian: no mechanism"):
        encode(Gaussian())  # type: ignore[arg-type]
    with pytest.raises(UnknownMechanism, match="str: no mechanism"):
        encode(Repeated("a mechanism", 3))  # type: ignore[arg-type]
