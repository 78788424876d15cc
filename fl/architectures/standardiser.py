"""The first layer of a model of features: each feature less its centre, divided by its spread.

Both are weights, found in a training's first rounds (`fl.statistics`) and left alone in the others.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

STANDARDISER: Final = "standardiser"
"""Name of the layer in a module; its weights' names begin with it."""


class Standardiser(nn.Module):
    """Centres and scales features; float32 (n, d) to (n, d).

    A feature that is NaN, an empty cell that tells nothing, becomes 0: the centre.

    Attributes:
        centre: shape (d,); zeros at first.
        spread: shape (d,), above 0; ones at first.
        records: shape (1,): how many records the training has counted at all hospitals together,
            with noise; 0 at first.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(features), requires_grad=False)
        self.spread = nn.Parameter(torch.ones(features), requires_grad=False)
        self.records = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the standardised features."""
        return torch.nan_to_num((features - self.centre) / self.spread, nan=0.0)


class Present(nn.Module):
    """Puts 0, the middle of a column, where a cell is empty; without weights."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the features without NaN."""
        return torch.nan_to_num(features, nan=0.0)
