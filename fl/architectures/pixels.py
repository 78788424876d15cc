"""The first layer of a model of images: pixels as a hospital's table has them, scaled."""

from __future__ import annotations

import torch
from torch import nn

from fl.contract import Images


class Pixels(nn.Module):
    """Scales the contract's range of pixels to ``low`` … ``high``; without weights.

    Reads uint8 or float32 (n, channels, height, width), gives float32 of the same shape.
    """

    def __init__(self, images: Images, *, low: float, high: float) -> None:
        super().__init__()
        self._factor = (high - low) / (images.maximum - images.minimum)
        self._offset = low - images.minimum * self._factor

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Returns the scaled pixels."""
        # Not in place: what is float32 already is the hospital's own table.
        return pixels.float() * self._factor + self._offset
