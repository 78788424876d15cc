"""DP-SGD from the factors of the records' gradients, without a backward pass to the weights.

The gradient of one record in a layer follows from what the layer read and from the gradient at what
it wrote. Both are kept during one pass; from them `fl.layer_gradients` finds norms and clipped
sums, in most layers without ever forming a record's gradient. Eleven million parameters then take
the memory of one gradient instead of one for each record. The result is that of Opacus up to
rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from fl.errors import ModelError
from fl.layer_gradients import (
    LayerGradients,
    ParameterGradients,
    added,
    formed,
    is_known,
    layer_gradients,
)


def can_be_factored(module: nn.Module) -> bool:
    """Whether every trainable parameter lies in one layer, of a kind that has a rule."""
    layers = _trainable_layers(module)
    parameters = [p for layer in layers for p in layer.parameters(recurse=False)]
    shared = len({id(p) for p in parameters}) < len(parameters)
    return all(is_known(layer) for layer in layers) and not shared


class Factors:
    """The two factors of each record's gradient in each layer, of the last pass."""

    def __init__(self, module: nn.Module) -> None:
        self._layers = _trainable_layers(module)
        self._inputs: dict[nn.Module, torch.Tensor] = {}
        self._edges: dict[nn.Module, GradientEdge] = {}
        self._outputs: dict[nn.Module, torch.Tensor] = {}

    @classmethod
    @contextmanager
    def captured(cls, module: nn.Module) -> Iterator[Self]:
        """Hooks the layers of a module for as long as the block runs."""
        factors = cls(module)
        with ExitStack() as hooks:
            for layer in factors._layers:
                hooks.callback(layer.register_forward_hook(factors._keep).remove)
            yield factors
        factors.clear()

    def clear(self) -> None:
        """Forgets the last pass."""
        self._inputs.clear()
        self._edges.clear()
        self._outputs.clear()

    def backward(self, loss: torch.Tensor) -> None:
        """Finds the gradients at the layers' outputs; no weight's own gradient is computed."""
        found: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
            loss, tuple(self._edges.values()), allow_unused=True
        )
        self._outputs = {
            layer: gradient
            for layer, gradient in zip(self._edges, found, strict=True)
            if gradient is not None  # a layer that the loss does not depend on
        }
        self._edges.clear()

    def clipped_sums(self, max_norm: float) -> tuple[ParameterGradients, int]:
        """Returns the sums of the clipped gradients, and how many records were left out of them.

        A record is left out when its gradient is not finite.
        """
        gradients = self._gradients()
        if not gradients:
            return [], 0
        norms = _norms(gradients)
        finite = norms.isfinite()
        left_out = len(norms) - int(finite.count_nonzero())
        if left_out:
            # Zero times infinity is no number: such records must not enter the sums at all.
            norms, gradients = norms[finite], self._gradients(finite)
        scale = (max_norm / (norms + 1e-6)).clamp(max=1.0)
        return [pair for layer in gradients for pair in layer.weighted_sums(scale)], left_out

    def formed(self) -> ParameterGradients:
        """Returns each record's gradients themselves: shape (n, …) for each parameter."""
        return [
            pair
            for layer, outputs in self._outputs.items()
            for pair in formed(layer, self._inputs[layer], outputs)
        ]

    def _gradients(self, kept: torch.Tensor | None = None) -> list[LayerGradients]:
        rows: Any = slice(None) if kept is None else kept
        return [
            layer_gradients(layer, self._inputs[layer][rows], outputs[rows])
            for layer, outputs in self._outputs.items()
        ]

    def _keep(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        if layer in self._inputs:
            raise ModelError(
                f"a {type(layer).__name__} layer is used twice in one pass: its gradients cannot "
                "be clipped record by record; give each use a layer of its own"
            )
        # The edge, not the tensor: an in-place operation may make another tensor of it.
        self._inputs[layer], self._edges[layer] = inputs[0].detach(), get_gradient_edge(output)


def _norms(gradients: list[LayerGradients]) -> torch.Tensor:
    """Each record's norm over all layers together, shape (n,)."""
    return added(layer.squared_norms() for layer in gradients).sqrt()


def _trainable_layers(module: nn.Module) -> list[nn.Module]:
    return [
        layer
        for layer in module.modules()
        if any(p.requires_grad for p in layer.parameters(recurse=False))
    ]
