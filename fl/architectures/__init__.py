"""From a model's specification to a PyTorch module, and between modules and weights.

    module = build(spec)
    load_weights(module, initial_weights(spec, seed=7))
    logits = module(features)  # float32, (n, d) to (n, 1)

A new architecture is a class in ``fl.architecture_spec`` and a case in ``build``.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from fl.architecture_spec import Custom, Logistic, Mlp
from fl.architectures.custom import build_custom
from fl.architectures.standardiser import Present, Standardiser
from fl.errors import ModelError
from fl.names import STANDARDISER
from fl.spec import ModelSpec
from fl.weights import Weights, WeightsLayout, check_layout, layout


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
        case Custom() as custom:
            return build_custom(custom, spec.contract, seed=0)
        case _:
            raise ModelError(f"architecture {spec.architecture.kind!r}: not built yet")


def features_of(module: nn.Module) -> nn.Module:
    """Returns what a module does to records before it standardises them, without weights."""
    before: list[nn.Module] = []
    for name, layer in module.named_children():
        if name == STANDARDISER:
            return nn.Sequential(*before)
        before.append(layer)
    raise ModelError("the model does not standardise its features")


def initial_weights(spec: ModelSpec, *, seed: int) -> Weights:
    """Returns the weights a training starts from; equal seeds give equal weights.

    Weights and biases of a layer of d inputs are uniform within 1 / sqrt(d) of zero, which is
    PyTorch's default for linear layers (LeCun et al. 1998, §4.6, up to a constant). An
    architecture of somebody's own draws its weights itself.

    Args:
        spec: the model's specification.
        seed: public, 0 to 2^64 - 1.
    """
    if isinstance(spec.architecture, Custom):
        return weights_of(build_custom(spec.architecture, spec.contract, seed=seed))
    generator = torch.Generator().manual_seed(seed)
    module = build(spec)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                bound = 1 / math.sqrt(layer.in_features)
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
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


def _standardised(spec: ModelSpec, features: int, network: nn.Module) -> nn.Module:
    if not spec.standardises:
        return nn.Sequential(OrderedDict(present=Present(), network=network))
    return nn.Sequential(OrderedDict({STANDARDISER: Standardiser(features), "network": network}))


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
