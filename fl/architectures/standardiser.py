"""The first layer of a model of features: each feature less its centre, divided by its spread.

Both are weights, found in a training's first rounds (`fl.statistics`) and left alone in the others.
"""

from __future__ import annotations

import torch
from torch import nn


class Standardiser(nn.Module):
    """Centres and scales features; float32 (n, d) to (n, d).

    A feature that is NaN, an empty cell that tells nothing, becomes 0: the centre.

    Attributes:
        centre: shape (d,); zeros at first.
        spread: shape (d,), above 0; ones at first.
        records: shape (1,): how many records, or patients, the training has counted at all
            hospitals together, with noise, in units of 65,536; 0 at first.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(features), requires_grad=False)
        self.spread = nn.Parameter(torch.ones(features), requires_grad=False)
        self.records = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the standardised features."""
        return without_nan((features - self.centre) / self.spread)


class Present(nn.Module):
    """Puts 0, the middle of a column, where a cell is empty; without weights."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the features without NaN."""
        return without_nan(features)


def without_nan(features: torch.Tensor) -> torch.Tensor:
    """Returns features with 0 for NaN; an infinity stays, so that its record is left out."""
    return torch.where(features.isnan(), 0.0, features)
