"""The networks that the private step is measured on, with features of their size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn.functional import relu


@dataclass(frozen=True, slots=True)
class Case:
    """A network and a batch.

    Attributes:
        name: as it stands in the report.
        make: returns a fresh network, float32 (n, *shape) to logits (n, 1).
        shape: of one record's features.
        records: in the batch.
        steps: to time at once.
        repeats: of the measurement.
    """

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    records: int
    steps: int
    repeats: int = 5


class _Block(nn.Module):
    """Two 3x3 convolutions and a short cut (He et al. 2016), with group normalisation."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(32, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(32, outputs)
        self.shortcut = (
            nn.Identity()
            if stride == 1
            else nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.GroupNorm(32, outputs)
            )
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns (n, outputs, height / stride, width / stride)."""
        between = relu(self.norm1(self.conv1(features)))
        return relu(self.norm2(self.conv2(between)) + self.shortcut(features))


def mlp() -> nn.Module:
    """Returns the demo's network, 30-64-32-1."""
    return nn.Sequential(
        nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
    )


def small_cnn() -> nn.Module:
    """Returns two convolutions and two linear layers for 28 x 28 pixels, as in Opacus's MNIST."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 8, 2, padding=3), nn.ReLU(), nn.MaxPool2d(2, 1)),
        *(nn.Conv2d(16, 32, 4, 2), nn.ReLU(), nn.MaxPool2d(2, 1)),
        *(nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 1)),
    )


def resnet18() -> nn.Module:
    """Returns ResNet-18 for 32 x 32 pixels of three channels, with group normalisation."""
    widths = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
    blocks = [
        block
        for inputs, outputs, stride in widths
        for block in (_Block(inputs, outputs, stride), _Block(outputs, outputs, 1))
    ]
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.GroupNorm(32, 64), nn.ReLU()),
        *blocks,
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1)),
    )


CASES: Final = (
    Case("MLP 30-64-32-1, batch 64", mlp, (30,), 64, 40),
    Case("MLP 30-64-32-1, batch 512", mlp, (30,), 512, 20),
    Case("CNN 28x28, batch 64", small_cnn, (1, 28, 28), 64, 8),
    Case("ResNet-18 with GroupNorm, batch 16", resnet18, (3, 32, 32), 16, 1, repeats=3),
)
