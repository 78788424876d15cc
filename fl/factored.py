"""DP-SGD for large linear layers without a gradient for each record in memory.

The gradient of one record in a linear layer is the outer product of the layer's input and of the
gradient at its output. Its norm is the product of their norms, and the sum of the clipped gradients
is one product of matrices, so that neither needs the outer products themselves (Goodfellow 2015,
arXiv:1510.01799; Bu et al. 2023, arXiv:2210.00038). Eleven million parameters then take the memory
of one gradient instead of one for each record. The result is that of Opacus up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Self

import torch
from torch import nn

from fl.errors import ModelError

_LARGE_BYTES: Final = 256 * 1024**2


def worth_factoring(module: nn.Module, *, records: int) -> bool:
    """Whether the records' gradients would take much memory and every layer can be factored."""
    trainable = {p for p in module.parameters() if p.requires_grad}
    in_linear_layers = {
        p for layer in module.modules() if isinstance(layer, nn.Linear) for p in layer.parameters()
    }
    size = 4 * records * sum(p.numel() for p in trainable)
    return size > _LARGE_BYTES and trainable <= in_linear_layers


class LinearFactors:
    """The two factors of each record's gradient in each linear layer, of the last backward pass."""

    def __init__(self, module: nn.Module) -> None:
        self._layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        self._inputs: dict[nn.Linear, torch.Tensor] = {}
        self._outputs: dict[nn.Linear, torch.Tensor] = {}

    @classmethod
    @contextmanager
    def captured(cls, module: nn.Module) -> Iterator[Self]:
        """Hooks the layers of a module for as long as the block runs."""
        factors = cls(module)
        with ExitStack() as hooks:
            for layer in factors._layers:
                hooks.callback(layer.register_forward_hook(factors._keep_input).remove)
                hooks.callback(layer.register_full_backward_hook(factors._keep_output).remove)
            yield factors
        factors.clear()

    def clear(self) -> None:
        """Forgets the last pass; without another one its sums are those of no records."""
        self._inputs.clear()
        self._outputs.clear()

    def sum_clipped(self, max_norm: float) -> int:
        """Leaves the sum of the clipped gradients in each parameter's ``summed_grad``.

        Returns:
            How many records were left out because their gradient was not finite.
        """
        norms = self._norms()
        finite = norms.isfinite()
        scale = torch.where(finite, (max_norm / (norms + 1e-6)).clamp(max=1.0), 0.0)
        for layer in self._layers:
            weight: Any = layer.weight
            bias: Any = layer.bias
            if not self._inputs:
                weight.summed_grad = torch.zeros_like(layer.weight)
                if bias is not None:
                    bias.summed_grad = torch.zeros_like(layer.bias)
                continue
            # Zero times infinity is no number: what is left out must not enter the product at all.
            inputs = self._inputs[layer].where(finite[:, None], 0.0)
            outputs = self._outputs[layer].where(finite[:, None], 0.0) * scale[:, None]
            weight.summed_grad = outputs.T @ inputs
            if bias is not None:
                bias.summed_grad = outputs.sum(0)
        return int((~finite).sum())

    def _norms(self) -> torch.Tensor:
        """Each record's norm over all layers together, shape (n,)."""
        squares = [
            self._outputs[layer].square().sum(1)
            * (self._inputs[layer].square().sum(1) + (layer.bias is not None))
            for layer in self._layers
            if layer in self._outputs
        ]
        return torch.stack(squares).sum(0).sqrt() if squares else torch.zeros(0)

    def _keep_input(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...], _: object) -> None:
        assert isinstance(layer, nn.Linear)  # noqa: S101 - hooked to these alone
        (given,) = inputs
        if given.dim() != 2 or layer in self._inputs:
            raise ModelError(
                "a layer is used twice in one pass, or on more than one vector of each record: "
                "the gradients of so large a model cannot be clipped record by record"
            )
        self._inputs[layer] = given.detach()

    def _keep_output(self, layer: nn.Module, _: object, outputs: Any) -> None:
        assert isinstance(layer, nn.Linear)  # noqa: S101 - hooked to these alone
        self._outputs[layer] = outputs[0].detach()
