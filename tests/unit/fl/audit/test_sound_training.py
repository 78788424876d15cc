"""The training as it is leaks no more than its plan claims, and the audit sees most of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fl.training import train_locally
from privacy.audit import CONFIDENCE, std_interval
from privacy.noise import SecureGenerator

Array = NDArray[np.float64]
Leak = Callable[..., tuple[float, float]]

TEETH = 0.6  # the least share of the claim that the bound on sound code must show


@pytest.mark.parametrize(
    "pair",
    [
        "full batch",
        "full batch against others",
        "four steps",
        "convolution",
        "convolution against others",
        "large batch",
        "large batch against others",
        "sample",
    ],
)
def test_it_leaks_no_more_than_claimed_and_the_bound_is_not_empty(pair: str, leak: Leak) -> None:
    measured, claimed = leak(pair)
    assert TEETH * claimed <= measured <= claimed


def test_it_leaks_no_more_than_claimed_where_others_are_sampled_too(leak: Leak) -> None:
    """The other rows' coins hide the canary further, so that there may be nothing to see."""
    measured, claimed = leak("sample against another")
    assert measured <= claimed


def test_its_noise_has_the_claimed_deviation(noise: Callable[..., Array]) -> None:
    low, high = std_interval(noise())
    assert 0.9 < low <= 1 <= high < 1.1


def test_its_noise_does_not_repeat(
    noise: Callable[..., Array], repetition: Callable[[Array], dict[str, float]]
) -> None:
    assert min(repetition(noise()).values()) > 1 - CONFIDENCE


class Noiseless(SecureGenerator):
    def normal(self, shape: object, std: float) -> Array:
        return np.zeros(shape)


@pytest.mark.parametrize("name", ["full batch", "convolution", "large batch"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_record_that_is_not_finite_changes_nothing(
    name: str, value: float, pairs: dict[str, object]
) -> None:
    pair = replace(pairs[name], canary=value)
    without, with_canary = (
        pair.noisy_sums(pair.table(with_canary=present), train_locally, Noiseless.seeded(0))
        for present in (False, True)
    )
    assert without.any()
    np.testing.assert_array_equal(without, with_canary)
