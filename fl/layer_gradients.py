"""What clipping needs of one layer's gradients: each record's norm, and a weighted sum of all.

    gradients = layer_gradients(layer, inputs, outputs)
    norms = gradients.squared_norms().sqrt()                      # (n,)
    for parameter, summed in gradients.weighted_sums(scale): ...  # shaped like the parameter

``inputs`` is what the layer read of n records, ``outputs`` the loss's gradient at what it wrote.
Where a record is one vector, its gradient is an outer product that need never be formed: its norm
is a product of norms (Goodfellow 2015, arXiv:1510.01799), and the weighted sum is one product of
matrices (Bu et al. 2023, arXiv:2210.00038). A convolution adds such products over its positions.
Their norm is found by comparing all positions with each other where that is cheaper than forming
the gradients (Bu et al. 2022, arXiv:2205.10683, section 3.3).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeAlias

import torch
from torch import nn
from torch.nn.functional import group_norm, layer_norm, unfold
from torch.nn.grad import conv2d_weight

ParameterGradients: TypeAlias = list[tuple[nn.Parameter, torch.Tensor]]

# A multiplication in float64 takes as long as two in float32, and positions are compared twice.
_COMPARING_COSTS: Final = 4


class LayerGradients(Protocol):
    """The gradients of a layer's trainable parameters, record by record."""

    def squared_norms(self) -> torch.Tensor:
        """Returns the squared norms over the layer's parameters together, shape (n,)."""
        ...

    def weighted_sums(self, weights: torch.Tensor) -> ParameterGradients:
        """Returns each parameter's gradients, summed over the records with weights (n,)."""
        ...


def is_known(layer: nn.Module) -> bool:
    """Whether this module has a rule for the layer's own parameters."""
    if type(layer) is nn.Conv2d:
        plain = layer.groups == 1 and layer.padding_mode == "zeros"
        return plain and not isinstance(layer.padding, str)
    return type(layer) in (nn.Linear, nn.GroupNorm, nn.LayerNorm)


def layer_gradients(
    layer: nn.Module, inputs: torch.Tensor, outputs: torch.Tensor
) -> LayerGradients:
    """Returns a known layer's gradients in the cheapest form."""
    if isinstance(layer, nn.Linear) and inputs.dim() == 2:
        return _Outer(layer, inputs, outputs)
    if isinstance(layer, nn.Conv2d) and _comparing_is_cheaper(layer, outputs):
        return _Compared(layer, inputs, outputs)
    return Formed(formed(layer, inputs, outputs))


def formed(layer: nn.Module, inputs: torch.Tensor, outputs: torch.Tensor) -> ParameterGradients:
    """Returns the gradients of a known layer themselves: shape (n, …) for each parameter."""
    if isinstance(layer, nn.Linear):
        # A record's vectors, of which there is one unless it is a sequence.
        g = outputs.reshape(len(outputs), -1, outputs.shape[-1])
        a = inputs.reshape(len(inputs), -1, inputs.shape[-1])
        return _trainable(layer, lambda: g.transpose(1, 2) @ a, lambda: g.sum(1))
    if isinstance(layer, nn.Conv2d):
        g, shape = outputs.flatten(2), (len(outputs), *layer.weight.shape)
        positions = _positions(layer, inputs)
        return _trainable(
            layer, lambda: (g @ positions.transpose(1, 2)).view(shape), lambda: g.sum(2)
        )
    if isinstance(layer, nn.GroupNorm):
        g, scaled = outputs.flatten(2), group_norm(inputs, layer.num_groups, eps=layer.eps)
        return _trainable(layer, lambda: (g * scaled.flatten(2)).sum(2), lambda: g.sum(2))
    if isinstance(layer, nn.LayerNorm):
        shape = (len(outputs), -1, *layer.normalized_shape)
        g = outputs.reshape(shape)
        scaled = layer_norm(inputs, layer.normalized_shape, eps=layer.eps).reshape(shape)
        return _trainable(layer, lambda: (g * scaled).sum(1), lambda: g.sum(1))
    raise TypeError(f"{type(layer).__name__}: no rule for this layer; see is_known")


def values_per_record(layer: nn.Module, output: torch.Tensor, *, is_formed: bool) -> int:
    """Returns about how many numbers of a record are held for a layer, beside its output.

    Args:
        layer: any layer.
        output: what it wrote of one record.
        is_formed: whether the record's gradient is formed in any case.
    """
    gradient = sum(p.numel() for p in layer.parameters(recurse=False) if p.requires_grad)
    if isinstance(layer, nn.Conv2d):
        read = layer.weight[0].numel() * output[0, 0].numel()
        # The positions are there for a moment only, but twice, and in float64.
        compared = not is_formed and _comparing_is_cheaper(layer, output)
        return 3 * read if compared else read + gradient
    if isinstance(layer, nn.Linear) and output.dim() == 2 and not is_formed:
        return 0
    return gradient


def added(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    """Returns the sum of at least one tensor."""
    return functools.reduce(torch.add, terms)


class Formed:
    """Gradients that lie in memory: shape (n, …) for each parameter."""

    def __init__(self, gradients: ParameterGradients) -> None:
        self._gradients = gradients

    def squared_norms(self) -> torch.Tensor:
        """See ``LayerGradients``."""
        return added(
            torch.linalg.vector_norm(gradient.flatten(1), dim=1).square()
            for _, gradient in self._gradients
        )

    def weighted_sums(self, weights: torch.Tensor) -> ParameterGradients:
        """See ``LayerGradients``."""
        return [
            (parameter, (weights @ gradient.flatten(1)).view(parameter.shape))
            for parameter, gradient in self._gradients
        ]


class _Outer:
    """A linear layer's, of one vector a record: outer products that are never formed."""

    def __init__(self, layer: Any, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        self._layer, self._inputs, self._outputs = layer, inputs, outputs

    def squared_norms(self) -> torch.Tensor:
        """See ``LayerGradients``."""
        squares: torch.Tensor = torch.linalg.vector_norm(self._outputs, dim=1).square()
        # The bias is a weight whose input is always one.
        inputs = torch.zeros_like(squares)
        if self._layer.weight.requires_grad:
            inputs += torch.linalg.vector_norm(self._inputs, dim=1).square()
        if self._layer.bias is not None and self._layer.bias.requires_grad:
            inputs += 1.0
        return squares * inputs

    def weighted_sums(self, weights: torch.Tensor) -> ParameterGradients:
        """See ``LayerGradients``."""
        outputs = self._outputs * weights[:, None]
        return _trainable(self._layer, lambda: outputs.T @ self._inputs, lambda: outputs.sum(0))


class _Compared:
    """A convolution's: norms by comparing positions, the sum as a convolution's own gradient.

    The squared norm is a sum of products of either sign, whose rounding error is that of the
    largest. In float64 its root is as exact as the gradient that would have been formed in float32,
    so that no record is taken for shorter than what it adds to the sum.
    """

    def __init__(self, layer: Any, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        self._layer, self._inputs, self._outputs = layer, inputs, outputs

    def squared_norms(self) -> torch.Tensor:
        """See ``LayerGradients``."""
        g = self._outputs.flatten(2).double()
        squares = torch.zeros(len(g), dtype=torch.float64, device=g.device)
        if self._layer.weight.requires_grad:
            a = _positions(self._layer, self._inputs).double()
            alike = (g.transpose(1, 2) @ g) * (a.transpose(1, 2) @ a)
            squares += alike.sum((1, 2)).clamp(min=0.0)
        if self._layer.bias is not None and self._layer.bias.requires_grad:
            squares += g.sum(2).square().sum(1)
        return squares.float()

    def weighted_sums(self, weights: torch.Tensor) -> ParameterGradients:
        """See ``LayerGradients``."""
        layer, outputs = self._layer, self._outputs * weights[:, None, None, None]
        return _trainable(
            layer,
            lambda: conv2d_weight(  # type: ignore[no-untyped-call]
                self._inputs,
                layer.weight.shape,
                outputs,
                stride=layer.stride,
                padding=layer.padding,
                dilation=layer.dilation,
            ),
            lambda: outputs.sum((0, 2, 3)),
        )


def _comparing_is_cheaper(layer: nn.Conv2d, outputs: torch.Tensor) -> bool:
    channels, inputs = layer.out_channels, layer.weight[0].numel()
    positions = outputs[0, 0].numel()
    return _COMPARING_COSTS * positions * (channels + inputs) <= channels * inputs


def _positions(layer: nn.Conv2d, inputs: torch.Tensor) -> torch.Tensor:
    """What each output position of a convolution reads: (n, values, positions)."""
    if layer.kernel_size == (1, 1) and layer.padding == (0, 0):
        down, right = layer.stride
        return inputs[:, :, ::down, ::right].flatten(2)
    return unfold(
        inputs,
        layer.kernel_size,
        dilation=layer.dilation,
        padding=layer.padding,  # type: ignore[arg-type]  # is_known refuses words
        stride=layer.stride,
    )


def _trainable(
    layer: Any, weight: Callable[[], torch.Tensor], bias: Callable[[], torch.Tensor]
) -> ParameterGradients:
    """Computes the gradients that are asked for: frozen parameters have none."""
    computed = ((layer.weight, weight), (layer.bias, bias))
    return [(p, compute()) for p, compute in computed if p is not None and p.requires_grad]
