"""The architectures by name, each with its hyperparameters as a typed schema; free of PyTorch.

``fl.architectures`` builds them. All of them tell one record from the others without looking at
these (no batch statistics), which is what DP-SGD needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MOST_PARAMETERS: Final = 64_000_000
"""Most parameters of a model: 256 MB of weights, which a hospital holds several times."""

_Width = Annotated[int, Field(ge=1, le=8192)]
_Channels = Annotated[int, Field(ge=1, le=1024)]
_EntryPoint = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
_ParameterName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
_Scalar = bool | Annotated[int, Field(ge=-(10**12), le=10**12)] | float | str


class _Architecture(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    reads: ClassVar[Literal["columns", "images", "any"]] = "columns"


class Logistic(_Architecture):
    """A linear model of the standardised columns; the first to try.

    Attributes:
        standardise: whether the training's first rounds find the columns' centre and spread over
            all hospitals, under the same noise; see ``docs/recipes.md``.
    """

    kind: Literal["logistic"] = "logistic"
    standardise: bool = True

    def parameters(self, shape: Sequence[int]) -> int:
        """Number of weights for records of a shape."""
        (features,) = shape
        return _standardiser(features, self.standardise) + features + 1


class Mlp(_Architecture):
    """A multilayer perceptron with ReLU; ``hidden`` gives the widths of its hidden layers."""

    kind: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[_Width, ...], Field(min_length=1, max_length=8)] = (64, 32)
    standardise: bool = True

    def widths(self, features: int) -> tuple[int, ...]:
        """The width of each layer, from the features to the one logit."""
        return (features, *self.hidden, 1)

    def parameters(self, shape: Sequence[int]) -> int:
        """Number of weights for records of a shape."""
        (features,) = shape
        layers = sum((n + 1) * m for n, m in pairwise(self.widths(features)))
        return _standardiser(features, self.standardise) + layers


class HogLogistic(_Architecture):
    """A linear model of fixed features of an image: histograms of oriented gradients.

    The features (Dalal and Triggs 2005, here with signed orientations and bilinear windows) are
    public and learn nothing, so they cost no privacy; few weights are left to learn.

    Attributes:
        grid: windows in each direction.
        orientations: bins over the full circle.
        standardise: as of ``Logistic``.
    """

    reads: ClassVar[Literal["columns", "images", "any"]] = "images"

    kind: Literal["hog-logistic"] = "hog-logistic"
    grid: Annotated[int, Field(ge=1, le=16)] = 4
    orientations: Annotated[int, Field(ge=2, le=16)] = 6
    standardise: bool = True

    def features(self, shape: Sequence[int]) -> int:
        """Number of features of an image: orientations and one brightness by channel a window."""
        channels, _, _ = shape
        return self.grid**2 * (self.orientations + channels)

    def parameters(self, shape: Sequence[int]) -> int:
        """Number of weights for records of a shape."""
        features = self.features(shape)
        return _standardiser(features, self.standardise) + features + 1


class Cnn(_Architecture):
    """A small convolutional network: blocks of 3×3 convolution, GroupNorm, ReLU, 2×2 pooling.

    Attributes:
        channels: of each block; each halves height and width.
        groups: of GroupNorm; divides every number of channels.
    """

    reads: ClassVar[Literal["columns", "images", "any"]] = "images"

    kind: Literal["cnn"] = "cnn"
    channels: Annotated[tuple[_Channels, ...], Field(min_length=1, max_length=5)] = (16, 32)
    groups: Annotated[int, Field(ge=1, le=64)] = 4

    def parameters(self, shape: Sequence[int]) -> int:
        """Number of weights for records of a shape."""
        convolutions = sum(9 * n * m + m for n, m in pairwise((shape[0], *self.channels)))
        norms = sum(2 * m for m in self.channels)
        return convolutions + norms + self.channels[-1] + 1

    @model_validator(mode="after")
    def _groups_divide_the_channels(self) -> Self:
        _require_divides(self.groups, self.channels)
        return self


class ResNet18(_Architecture):
    """ResNet-18 (He et al. 2016) with GroupNorm (Wu and He 2018) in place of batch statistics.

    Attributes:
        width: channels of the first stage; the others have 2, 4 and 8 times as many.
        groups: of GroupNorm; divides the width.
    """

    reads: ClassVar[Literal["columns", "images", "any"]] = "images"

    kind: Literal["resnet-18"] = "resnet-18"
    width: Annotated[int, Field(ge=8, le=128)] = 64
    groups: Annotated[int, Field(ge=1, le=64)] = 16

    def parameters(self, shape: Sequence[int]) -> int:
        """Number of weights for records of a shape."""
        w = self.width
        total = 9 * shape[0] * w + 2 * w
        for inputs, outputs in ((w, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w)):
            total += 9 * inputs * outputs + 3 * 9 * outputs**2 + 4 * 2 * outputs
            if inputs != outputs:
                total += inputs * outputs + 2 * outputs
        return total + 8 * w + 1

    @model_validator(mode="after")
    def _groups_divide_the_width(self) -> Self:
        _require_divides(self.groups, (self.width,))
        return self


class Custom(_Architecture):
    """An architecture of somebody's own, installed at the hospital under an entry point.

    Attributes:
        entry_point: its name in the group ``fedmed.architectures``; see ``docs/models.md``.
        arguments: its hyperparameters, which its own schema checks.
        most_parameters: most weights that it may have.
    """

    reads: ClassVar[Literal["columns", "images", "any"]] = "any"

    kind: Literal["custom"] = "custom"
    entry_point: _EntryPoint
    arguments: Annotated[dict[_ParameterName, _Scalar], Field(max_length=64)] = {}
    most_parameters: Annotated[int, Field(ge=1, le=MOST_PARAMETERS)] = MOST_PARAMETERS

    def parameters(self, shape: Sequence[int]) -> int:
        """Most weights that it may have, whatever the shape."""
        return self.most_parameters + 0 * math.prod(shape)


Architecture = Annotated[
    Logistic | Mlp | HogLogistic | Cnn | ResNet18 | Custom, Field(discriminator="kind")
]


def standardises(architecture: Architecture) -> bool:
    """Whether a training of an architecture begins by finding its features' centre and spread."""
    return isinstance(architecture, Logistic | Mlp | HogLogistic) and architecture.standardise


def _standardiser(features: int, standardise: bool) -> int:
    return 2 * features + 1 if standardise else 0


def _require_divides(groups: int, channels: Sequence[int]) -> None:
    if odd := [n for n in channels if n % groups]:
        raise ValueError(f"groups {groups}: does not divide {odd[0]} channels")
