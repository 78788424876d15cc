"""Histograms of oriented gradients: fixed features of an image, without weights.

After Dalal and Triggs 2005 ("Histograms of Oriented Gradients for Human Detection", §6), with
orientations over the full circle, since in an X-ray a bright edge on dark tells other things than
a dark one on bright, and with overlapping triangular windows, so that a shift of a pixel changes
little.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import nn
from torch.nn import functional

_LEAST_ENERGY: Final = 0.02
_LEAST_CONTRAST: Final = 0.05
_MOST: Final = 2.0  # the most that a cell may stand out of its neighbourhood


class OrientedGradients(nn.Module):
    """From pixels, float32 (n, channels, h, w) in 0 … 1, to features.

    The features are float32, shape (n, grid² * (orientations + channels)): of each orientation the
    cells, row by row, then of each channel. They are of size one or so.

    Args:
        size: height and width of the images.
        grid: windows in each direction.
        orientations: bins over the full circle.
    """

    def __init__(self, size: tuple[int, int], *, grid: int, orientations: int) -> None:
        super().__init__()
        self._orientations = orientations
        height, width = size
        self.register_buffer("rows", _windows(grid, height), persistent=False)
        self.register_buffer("columns", _windows(grid, width), persistent=False)

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Returns the features."""
        cells = self._pooled(self._oriented(pixels.mean(1)))
        energy = cells.square().sum(1, keepdim=True)
        around = functional.avg_pool2d(energy, 3, 1, 1, count_include_pad=False).sqrt()
        shares = (cells / (around + _LEAST_ENERGY)).clamp(max=_MOST)
        brightness = self._pooled(pixels)
        brightness = brightness - brightness.mean((2, 3), keepdim=True)
        contrast = brightness.square().mean((2, 3), keepdim=True).sqrt()
        relative = brightness / (contrast + _LEAST_CONTRAST)
        return torch.cat(
            [(shares * math.sqrt(self._orientations)).flatten(1), relative.flatten(1)], 1
        )

    def _oriented(self, grey: torch.Tensor) -> torch.Tensor:
        """Gradients' magnitudes, each parted between the two orientations next to its own."""
        padded = functional.pad(grey[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
        across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
        down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
        magnitude = torch.hypot(across, down)
        n = self._orientations
        angle = (torch.atan2(down, across) / (2 * math.pi)).remainder(1) * n
        shares = []
        for orientation in range(n):
            apart = (angle - orientation).remainder(n)
            near = 1 - torch.minimum(apart, n - apart)
            shares.append(magnitude * near.clamp(min=0))
        return torch.stack(shares, 1)

    def _pooled(self, planes: torch.Tensor) -> torch.Tensor:
        """Window means of planes (n, k, h, w): (n, k, grid, grid)."""
        return self.rows @ planes @ self.columns.T  # type: ignore[operator]


def _windows(grid: int, size: int) -> torch.Tensor:
    """Triangles around the middles of the cells, each of sum 1: (grid, size)."""
    middles = (torch.arange(grid) + 0.5) * size / grid
    pixels = torch.arange(size) + 0.5
    heights = (1 - (pixels - middles[:, None]).abs() * grid / size).clamp(min=0)
    # Of images with fewer pixels than cells a window may fall between two.
    nearest = functional.one_hot((pixels - middles[:, None]).abs().argmin(1), size).float()
    heights = torch.where(heights.sum(1, keepdim=True) > 0, heights, nearest)
    return heights / heights.sum(1, keepdim=True)
