"""Histograms of oriented gradients: what they see, what they do not, and sane in every case."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.architecture_spec import HogLogistic
from fl.architectures.hog import OrientedGradients


def features(pixels: torch.Tensor, *, grid: int = 2, orientations: int = 4) -> torch.Tensor:
    height, width = pixels.shape[2:]
    found: torch.Tensor = OrientedGradients((height, width), grid=grid, orientations=orientations)(
        pixels
    )
    return found


def ramp(angle: float, size: int = 16) -> torch.Tensor:
    """An image that grows brighter in one direction: 0 is to the right, pi / 2 downwards."""
    along = torch.linspace(-1, 1, size)
    plane = math.cos(angle) * along[None, :] + math.sin(angle) * along[:, None]
    return (0.5 + plane / 4)[None, None]


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    grid=st.integers(1, 16),
    orientations=st.integers(2, 8),
    channels=st.sampled_from([1, 3]),
    level=st.one_of(st.none(), st.floats(0, 1, width=32)),
    seed=st.integers(0, 1000),
)
def test_every_image_has_finite_features_of_moderate_size(
    height: int,
    width: int,
    grid: int,
    orientations: int,
    channels: int,
    level: float | None,
    seed: int,
) -> None:
    shape = (2, channels, height, width)
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    pixels = drawn if level is None else torch.full(shape, level)
    found = features(pixels, grid=grid, orientations=orientations)
    spec = HogLogistic(grid=grid, orientations=orientations)
    assert found.shape == (2, spec.features(shape[1:]))
    assert found.isfinite().all()
    assert float(found.abs().max()) <= max(2 * math.sqrt(orientations), grid) + 1e-4
    if level is not None:
        assert float(found.abs().max()) < 1e-4


def test_each_direction_is_seen_in_its_own_bin_and_its_opposite_in_another() -> None:
    for direction in range(4):
        (found,) = features(ramp(direction * math.pi / 2))
        bins = found[: 4 * 4].reshape(4, 4).sum(1)  # orientation, then windows
        assert int(bins.argmax()) == direction
        assert float(bins[direction]) > 0.9 * float(bins.sum())


def test_a_direction_between_two_bins_is_parted_between_them() -> None:
    (found,) = features(ramp(math.pi / 4))
    bins = found[: 4 * 4].reshape(4, 4).sum(1)
    assert float(bins[0]) == pytest.approx(float(bins[1]), rel=1e-3)
    assert float(bins[2:].sum()) < 0.1 * float(bins.sum())


def test_light_and_contrast_change_little() -> None:
    pixels = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    found, dimmer = features(pixels), features(0.7 * pixels + 0.1)
    assert float((found - dimmer).abs().max()) < 0.35
    assert float((found - features(1 - pixels)).abs().max()) > 0.35  # but not a negative's


def test_the_bright_half_shows_in_the_brightness() -> None:
    pixels = torch.zeros(1, 1, 16, 16)
    pixels[..., 8:] = 1
    brightness = features(pixels)[0, -4:].reshape(2, 2)
    assert (brightness[:, 1] > 0.5).all()
    assert (brightness[:, 0] < -0.5).all()


def test_windows_share_out_every_pixel_of_the_image() -> None:
    layer = OrientedGradients((20, 28), grid=4, orientations=6)
    for windows, size in ((layer.rows, 20), (layer.columns, 28)):
        assert isinstance(windows, torch.Tensor)
        assert windows.shape == (4, size)
        torch.testing.assert_close(windows.sum(1), torch.ones(4))
        assert (windows.sum(0) > 0).all()


def test_they_ask_for_no_gradient() -> None:
    pixels = torch.rand(2, 1, 8, 8).requires_grad_()
    assert not features(pixels).requires_grad
    assert not list(OrientedGradients((8, 8), grid=2, orientations=4).state_dict())
