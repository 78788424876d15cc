"""From a model's specification to a PyTorch module, and between modules and weights.

    module = build(spec)
    load_weights(module, initial_weights(spec, seed=7))
    logits = module(features)  # float32, (n, d) to (n, 1)

A new architecture is a class in ``fl.architecture_spec`` and a case in ``build``.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Final, assert_never

import numpy as np
import torch
from torch import nn

from fl.architecture_spec import Cnn, Custom, HogLogistic, Logistic, Mlp, ResNet18
from fl.architectures.convolutional import residual_network, small_network
from fl.architectures.custom import build_custom
from fl.architectures.hog import OrientedGradients
from fl.architectures.pixels import Pixels
from fl.architectures.standardiser import Present, Standardiser
from fl.contract import Images
from fl.errors import ModelError
from fl.names import STANDARDISER
from fl.spec import ModelSpec
from fl.weights import Weights, WeightsLayout, check_layout, layout

_NONE: Final[Mapping[str, nn.Module]] = {}


def build(spec: ModelSpec) -> nn.Module:
    """Returns the module of a specification, in training mode.

    Its weights are zeros; those of an architecture of somebody's own are what it was made with.

    It reads records of shape (n, *contract.shape), as a hospital's table has them, and returns
    logits of shape (n, 1). PyTorch's global random state is not touched.
    """
    shape = spec.contract.shape
    match spec.architecture:
        case Logistic():
            return _standardised(spec, shape[0], _linear(shape[0], 1))
        case Mlp() as mlp:
            return _standardised(spec, shape[0], _perceptron(mlp.widths(shape[0])))
        case HogLogistic() as hog:
            features = hog.features(shape)
            return _standardised(spec, features, _linear(features, 1), before=_gradients(spec, hog))
        case Cnn() as cnn:
            with _without_drawing():
                return _of_pixels(spec, small_network(cnn, channels=shape[0]))
        case ResNet18() as resnet:
            size = (shape[1], shape[2])
            with _without_drawing():
                return _of_pixels(spec, residual_network(resnet, channels=shape[0], size=size))
        case Custom() as custom:
            return _own(spec, custom, seed=0)
    assert_never(spec.architecture)


def split_fixed(module: nn.Module) -> tuple[nn.Module | None, nn.Module]:
    """Parts a module into fixed features and what is trained on them.

    What is fixed has no weights and no gradient, so that a hospital can compute it once for all
    steps, in parts. Both parts share their layers with the module, and the names of the weights are
    those that the whole has. Without fixed features the second part is the module itself.
    """
    layers = list(module.named_children())
    ends = [i for i, (_, layer) in enumerate(layers, 1) if isinstance(layer, OrientedGradients)]
    if not ends:
        return None, module
    fixed, trained = layers[: ends[-1]], layers[ends[-1] :]
    return nn.Sequential(OrderedDict(fixed)), nn.Sequential(OrderedDict(trained))


def initial_weights(spec: ModelSpec, *, seed: int) -> Weights:
    """Returns the weights a training starts from; equal seeds give equal weights.

    Weights and biases of a layer of which each output has d inputs are uniform within 1 / sqrt(d)
    of zero, which is PyTorch's default (LeCun et al. 1998, §4.6, up to a constant). A linear model
    starts from zeros: whatever else would only be unlearnt. An architecture of somebody's own draws
    its weights itself.

    Args:
        spec: the model's specification.
        seed: public, 0 to 2^64 - 1.
    """
    if isinstance(spec.architecture, Custom):
        return weights_of(_own(spec, spec.architecture, seed=seed))
    generator = torch.Generator().manual_seed(seed)
    module = build(spec)
    if isinstance(spec.architecture, Logistic | HogLogistic):
        return weights_of(module)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                bound = 1 / math.sqrt(layer.weight[0].numel())
                for weights in (layer.weight, layer.bias):
                    if weights is not None:
                        weights.uniform_(-bound, bound, generator=generator)
            elif isinstance(layer, nn.GroupNorm):
                nn.init.ones_(layer.weight)
    return weights_of(module)


def load_weights(module: nn.Module, weights: Weights) -> None:
    """Sets all weights of a module, or none when they do not fit.

    Raises:
        ModelError: a name, shape or type that differs from the module's.
    """
    check_layout(weights, layout_of(module))
    for name, tensor in module.state_dict().items():
        tensor.copy_(torch.from_numpy(np.require(weights[name], requirements="W")))


def weights_of(module: nn.Module, *, copy: bool = True) -> Weights:
    """Returns a module's weights; without a copy they share the module's memory."""
    views = {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
    return {name: view.copy() for name, view in views.items()} if copy else views


def layout_of(module: nn.Module) -> WeightsLayout:
    """Returns the layout of a module's weights."""
    return layout(weights_of(module, copy=False))


def _standardised(
    spec: ModelSpec, features: int, network: nn.Module, *, before: Mapping[str, nn.Module] = _NONE
) -> nn.Module:
    first: dict[str, nn.Module] = {"present": Present()}
    if spec.standardises:
        first = {STANDARDISER: Standardiser(features)}
    return nn.Sequential(OrderedDict({**before, **first, "network": network}))


def _gradients(spec: ModelSpec, hog: HogLogistic) -> dict[str, nn.Module]:
    images = _images(spec)
    return {
        "pixels": Pixels(images, low=0, high=1),
        "gradients": OrientedGradients(
            (images.height, images.width), grid=hog.grid, orientations=hog.orientations
        ),
    }


def _of_pixels(spec: ModelSpec, network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(OrderedDict(pixels=Pixels(_images(spec), low=-1, high=1), network=network))


def _own(spec: ModelSpec, architecture: Custom, *, seed: int) -> nn.Module:
    network = build_custom(architecture, spec.contract, seed=seed)
    first: dict[str, nn.Module] = {"present": Present()}
    if spec.contract.images is not None:
        first = {"pixels": Pixels(spec.contract.images, low=-1, high=1)}
    return nn.Sequential(OrderedDict({**first, "network": network}))


def _images(spec: ModelSpec) -> Images:
    if spec.contract.images is None:
        raise ModelError(f"architecture {spec.architecture.kind!r}: the contract names no images")
    return spec.contract.images


@contextmanager
def _without_drawing() -> Iterator[None]:
    """PyTorch draws the weights of a new layer; the global state is put back."""
    with torch.random.fork_rng(devices=[]):
        yield


def _perceptron(widths: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        if layers:
            layers.append(nn.ReLU())
        layers.append(_linear(inputs, outputs))
    return nn.Sequential(*layers)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    # Made without storage, so that PyTorch does not draw the weights that are zeroed next.
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
