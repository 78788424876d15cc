"""The grid of noisy sums: which values an output can take, and with what probability."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_ndtr

from privacy.errors import PlanError
from privacy.noise import SecureGenerator, grid_of, to_grid

MANY = 1 << 18
STEP = grid_of(1.0)


def released(total: float, noise: np.ndarray, *, std: float = 1.0) -> np.ndarray:
    """What training makes of a sum and its noise, in float32."""
    noisy = torch.from_numpy(noise + total)
    return to_grid(noisy, std).to(torch.float32).numpy()


@given(std=st.floats(1e-100, 1e300))
def test_the_step_is_a_power_of_two_from_the_deviation_alone(std: float) -> None:
    step = grid_of(std)
    assert math.frexp(step)[0] == 0.5
    assert std / 2048 < step <= std / 1024


@given(
    total=st.floats(-1000, 1000, width=32),
    noise=st.floats(-9.5, 9.5),
    std=st.sampled_from([1e-3, 0.7, 2.0, 55.0]),
)
def test_every_output_is_on_the_grid_and_next_to_the_noisy_sum(
    total: float, noise: float, std: float
) -> None:
    (value,) = released(total, np.array([noise * std]), std=std).astype(np.float64)
    step = grid_of(std)
    in_steps = value / step
    if abs(in_steps) < 2**24:
        assert in_steps == round(in_steps)
        assert abs(value - (total + noise * std)) <= step / 2 * (1 + 1e-9)


def test_noise_shows_what_it_was_added_to_and_the_grid_hides_it() -> None:
    """Outputs near zero have, from a sum of zero, bits that noise near -1 cannot leave."""
    noise = np.ldexp(SecureGenerator.seeded(1).normal(50, 1.0), -35)
    from_zero = noise.astype(np.float32)
    needed = from_zero.astype(np.float64) - 1.0  # the noise, had the sum been one
    assert np.count_nonzero((needed + 1.0).astype(np.float32) != from_zero) > 40

    on_grid = released(0.0, noise)
    assert np.array_equal(released(1.0, on_grid.astype(np.float64) - 1.0), on_grid)


@pytest.mark.parametrize("total", [0.0, 1 / 3, -20.0625])
def test_the_last_bits_of_the_outputs_are_alike_for_every_sum(total: float) -> None:
    values = released(total, SecureGenerator.seeded(2).normal(MANY, 1.0))
    in_steps = values.astype(np.float64) / STEP
    assert np.array_equal(in_steps, np.round(in_steps))
    found = np.bincount(in_steps.astype(np.int64) % 16, minlength=16)
    chi_square = float(((found - MANY / 16) ** 2 / (MANY / 16)).sum())
    assert chi_square < 55  # 15 degrees of freedom: exceeded by two samples in a million


def test_what_is_larger_than_the_grid_can_resolve_stays_as_it_is() -> None:
    values = np.array([1e30, -1e30, math.inf])
    assert np.array_equal(to_grid(torch.from_numpy(values.copy()), 1e-3).numpy(), values)


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf, 1e-200])
def test_without_a_deviation_there_is_no_grid(std: float) -> None:
    with pytest.raises(PlanError, match="grid"):
        grid_of(std)


@pytest.mark.parametrize(("deviations", "bound"), [(7.6, 2.0**-20), (8.0, 1e-5), (8.4, 1e-3)])
def test_far_out_each_step_has_nearly_its_ideal_probability(
    deviations: float, bound: float
) -> None:
    """Exact over all radii that reach a step, at the finest grid: half of the noise's claim."""
    step = 2.0**-11
    for low in deviations + step * np.arange(-3, 1):
        words = np.arange(math.exp(-low * low / 2) * 2.0**63 + 2)
        radius = np.sqrt(-2 * np.log((words + 0.5) * 2.0**-63))
        angles = np.arccos(np.minimum(low / radius, 1)) - np.arccos(
            np.minimum((low + step) / radius, 1)
        )
        found = angles.sum() / math.pi * 2.0**-63
        above = log_ndtr(-low)
        ideal = math.exp(above) * -math.expm1(log_ndtr(-low - step) - above)
        assert found == pytest.approx(ideal, rel=bound)
