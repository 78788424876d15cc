"""Convolutional networks whose normalisation looks at one record at a time."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from fl.architecture_spec import Cnn, ResNet18

_SMALL_IMAGE = 64


def small_network(spec: Cnn, *, channels: int) -> nn.Module:
    """Returns the network of a ``Cnn``: float32 (n, channels, h, w) to logits (n, 1)."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((channels, *spec.channels)):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.GroupNorm(spec.groups, outputs),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        ]
    return nn.Sequential(*layers, MeanOverPixels(), nn.Linear(spec.channels[-1], 1))


def residual_network(spec: ResNet18, *, channels: int, size: tuple[int, int]) -> nn.Module:
    """Returns a ResNet-18: float32 (n, channels, h, w) to logits (n, 1).

    Images of 64 pixels or more are halved twice at first, as by He et al. 2016; smaller ones are
    not.
    """
    stride = 1 if min(size) < _SMALL_IMAGE else 2
    w = spec.width
    stem: list[nn.Module] = [
        nn.Conv2d(channels, w, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(spec.groups, w),
        nn.ReLU(),
    ]
    if stride == 2:
        stem.append(nn.MaxPool2d(3, stride=2, padding=1))
    stages = OrderedDict[str, nn.Module](stem=nn.Sequential(*stem))
    for number, (inputs, outputs) in enumerate(
        ((w, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w)), start=1
    ):
        step = 1 if inputs == outputs else 2
        stages[f"stage{number}"] = nn.Sequential(
            ResidualBlock(inputs, outputs, stride=step, groups=spec.groups),
            ResidualBlock(outputs, outputs, stride=1, groups=spec.groups),
        )
    stages["mean"] = MeanOverPixels()
    stages["head"] = nn.Linear(8 * w, 1)
    return nn.Sequential(stages)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al. 2016, figure 2)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, groups: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(groups, outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(groups, outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False),
                nn.GroupNorm(groups, outputs),
            )

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Returns (n, outputs, h / stride, w / stride)."""
        return functional.relu(self.branch(planes) + self.shortcut(planes))


class MeanOverPixels(nn.Module):
    """Global average pooling: (n, k, h, w) to (n, k)."""

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Returns the means."""
        return planes.mean((2, 3))
