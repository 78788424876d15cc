"""How each record's gradient is found: which method for which model, and how many records at once.

    method = method_for(module)
    most = records_at_once(module, (30,), method=method, by_patient=False, part_bytes=PART_BYTES)

The rule follows a table of measurements in ``docs/dp-training.md``, which
``deployments/bench/privacy_step.py`` measures anew: where every layer has a rule of ours, factors
take less time than each of Opacus's own methods, on every model tried. Opacus's hooks know all
other layers, and gradients of tied parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

import torch
from opacus.grad_sample import GradSampleModule
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fl.errors import ModelError
from fl.factored import Factors, can_be_factored
from fl.layer_gradients import values_per_record

PART_BYTES: Final = 512 * 1024**2
"""Memory that the records of one part may take, beside weights, their sum and the table."""

# What a layer writes is kept for the backward pass, has a gradient, and a temporary beside it.
_COPIES: Final = 3


class Method(StrEnum):
    """How each record's gradient is found."""

    FACTORS = "factors"
    HOOKS = "hooks"


def method_for(module: nn.Module) -> Method:
    """Returns the fastest method that can do it.

    Raises:
        ModelError: no method can tell the records' gradients apart.
    """
    module.train()
    # Opacus looks at layers with weights alone; one without mixes records just as well.
    errors: list[Any] = [
        f"{type(layer).__name__} mixes the records of a batch; use GroupNorm"
        for layer in module.modules()
        if isinstance(layer, _BatchNorm)
    ]
    errors = errors or [*ModuleValidator.validate(module), *GradSampleModule.validate(module)]
    if errors:
        raise ModelError(f"no per-record gradients: {'; '.join(map(str, errors))}")
    return Method.FACTORS if can_be_factored(module) else Method.HOOKS


def records_at_once(
    module: nn.Module,
    shape: tuple[int, ...],
    *,
    method: Method,
    by_patient: bool,
    part_bytes: int,
) -> int:
    """Returns how many records may be processed at once, at least 1.

    A record of zeros is run through the module once, to see what each layer writes of it.

    Args:
        module: the module.
        shape: of one record's features.
        method: how the gradients are found.
        by_patient: whether the records' gradients are formed to be summed by patient.
        part_bytes: memory they may take.

    Raises:
        ModelError: the module does not fit such features.
    """
    is_formed = by_patient or method is not Method.FACTORS
    values = 0

    def count(layer: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal values
        if isinstance(output, torch.Tensor) and not list(layer.children()):
            values += _COPIES * output.numel()
            values += values_per_record(layer, output, is_formed=is_formed)

    with _hooked(module, count), torch.no_grad():
        try:
            module.eval()(torch.zeros(1, *shape))
        except RuntimeError as error:
            written = ", ".join(str(size) for size in shape)
            raise ModelError(f"the model does not fit features of shape (n, {written})") from error
        finally:
            module.train()
    return max(1, part_bytes // max(1, 4 * values))


def record_gradients(
    module: nn.Module, records: torch.Tensor, *, method: Method
) -> list[torch.Tensor | None]:
    """Returns the gradients of each record's output, summed over what it returns of the record.

    Returns:
        Shape (n, …) for each trained parameter, in the module's order; None where none was found.
    """
    trained: list[Any] = [p for p in module.parameters() if p.requires_grad]
    if method is Method.FACTORS:
        with Factors.captured(module) as factors:
            factors.backward(module(records).sum())
            formed = {id(parameter): gradient for parameter, gradient in factors.formed()}
        return [formed.get(id(parameter)) for parameter in trained]
    wrapped = GradSampleModule(module, loss_reduction="sum")
    try:
        torch.autograd.backward(wrapped(records.detach().requires_grad_()).sum())
        return [getattr(parameter, "grad_sample", None) for parameter in trained]
    finally:
        wrapped.to_standard_module()
        for parameter in trained:
            parameter.grad = None
            if hasattr(parameter, "grad_sample"):
                del parameter.grad_sample


@contextmanager
def _hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handles = [layer.register_forward_hook(hook) for layer in module.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
