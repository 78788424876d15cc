"""Whether a module can be trained privately: the reasons if not, and what to change.

    check_private(module)          # its layers and weights
    check_probed(module, (30,))    # what it does with made-up records of that shape

DP-SGD needs each record's own gradient, and nothing of records may leave but through the clipped,
noised sum of these. What Opacus refuses is said here layer by layer, with what it does not look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import UninitializedParameter

from fl.errors import ModelError
from fl.names import STANDARDISER
from fl.per_sample import Method, method_for, record_gradients

_REPLACED: Final = {
    nn.LSTM: "opacus.layers.DPLSTM",
    nn.GRU: "opacus.layers.DPGRU",
    nn.RNN: "opacus.layers.DPRNN",
    nn.MultiheadAttention: "opacus.layers.DPMultiheadAttention",
}
_RECORDS: Final = 4


def check_private(module: nn.Module) -> None:
    """Returns only if a module's layers and weights allow DP-SGD; leaves it in training mode.

    | what is refused | why |
    |-|-|
    | BatchNorm | mixes the records of a batch |
    | LSTM, GRU, RNN, MultiheadAttention | their records' gradients are unknown |
    | InstanceNorm with running statistics, buffers that are saved | leave without noise |
    | lazy layers | have no weights before they have seen records |
    | weights not float32, or not on the CPU | are not what is summed |
    | weights that are not trained | travel in vain, and the sum's noise moves them |
    | no weights | there is nothing to train |
    | shared weights of layers that Opacus has no rule for | gradients of uses would be lost |

    Raises:
        ModelError: all of its problems, each with the layer's path and what to change.
    """
    module.train()
    problems = [*_layer_problems(module), *_weight_problems(module)]
    if not problems:
        problems = [str(error) for error in ModuleValidator.validate(module)]
    if not problems:
        try:
            method_for(module)
        except ModelError as error:
            problems = [str(error)]
    if problems:
        raise ModelError(f"the model cannot be trained privately: {'; '.join(problems)}")


def check_probed(module: nn.Module, shape: Sequence[int]) -> None:
    """Returns only if a module treats each record by itself and its gradients can be told apart.

    It is run on made-up records: one's logit must not follow from the others, and the records'
    gradients must add up to the gradient of all. Leaves the module in training mode.

    Args:
        module: that `check_private` has passed.
        shape: of a record, such as (30,) or (1, 28, 28).

    Raises:
        ModelError: what is wrong, and what to change.
    """
    generator = torch.Generator().manual_seed(0)
    records = torch.randn((_RECORDS, *shape), generator=generator)
    others = torch.cat([records[:1], torch.randn(records[1:].shape, generator=generator)])
    logits, again = _logits(module, records), _logits(module, others)
    if not torch.allclose(logits[0], again[0], rtol=1e-3, atol=1e-5, equal_nan=True):
        raise ModelError(
            "the model cannot be trained privately: its logit of a record changes with the other "
            "records of a batch; let no operation go along the first axis"
        )
    _check_gradients(module, records)


def _layer_problems(module: nn.Module) -> Iterator[str]:
    for path, layer in module.named_modules():
        at = _at(path, layer)
        if isinstance(layer, _BatchNorm):
            yield f"{at} mixes the records of a batch: use GroupNorm or LayerNorm"
        elif isinstance(layer, _InstanceNorm) and layer.track_running_stats:
            yield (
                f"{at} keeps statistics of records, which would leave without noise: set "
                "track_running_stats=False"
            )
        elif (replaced := _replacement(layer)) is not None:
            yield f"{at}: the gradient of each record is not known: use {replaced}"
        elif saved := [
            name
            for name, _ in layer.named_buffers(recurse=False)
            if name not in layer._non_persistent_buffers_set
        ]:
            yield (
                f"{at}: buffer {saved[0]!r} would leave without noise: register it with "
                "persistent=False"
            )


def _weight_problems(module: nn.Module) -> Iterator[str]:
    parameters = [
        (name, parameter)
        for name, parameter in module.named_parameters()
        if not name.startswith(f"{STANDARDISER}.")
    ]
    if not parameters:
        yield "it has no weights to train: give it a layer with weights"
    for name, parameter in parameters:
        if isinstance(parameter, UninitializedParameter):
            yield f"weight {name!r} has no shape yet: use the layer that is not lazy"
        elif parameter.dtype != torch.float32:
            yield f"weight {name!r} is {_plain(parameter.dtype)}: make it float32"
        elif parameter.device.type != "cpu":
            yield f"weight {name!r} is on {parameter.device}: build on the CPU; training moves it"
        elif not parameter.requires_grad:
            yield (
                f"weight {name!r} is not trained (requires_grad=False): register it as a buffer "
                "with persistent=False, so that it does not travel"
            )


def _check_gradients(module: nn.Module, records: torch.Tensor) -> None:
    """Compares the records' gradients, summed, with the gradient that PyTorch finds of all."""
    trained = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    expected: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
        _logits(module, records).sum(), [p for _, p in trained], allow_unused=True
    )
    method = method_for(module)
    try:
        with _same_draws():
            found = record_gradients(module, records, method=method)
    except (ModelError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the model cannot be trained privately: no gradients of single records: {error}"
        ) from error
    for (name, _), whole, single in zip(trained, expected, found, strict=True):
        summed = None if single is None else single.sum(0)
        if whole is None and summed is None:
            continue
        if not _alike(whole, summed):
            raise ModelError(
                f"the model cannot be trained privately: the records' gradients of weight {name!r} "
                "do not add up; use each layer once, by calling it, and its weights nowhere else"
                + ("" if method is Method.FACTORS else ", or layers that Opacus has a rule for")
            )


def _alike(whole: torch.Tensor | None, summed: torch.Tensor | None) -> bool:
    if whole is None or summed is None:
        one = summed if whole is None else whole
        return one is None or not bool(one.any())
    scale = float(whole.abs().max().clamp(min=1e-3))
    return torch.allclose(whole, summed, rtol=1e-2, atol=1e-3 * scale, equal_nan=True)


def _logits(module: nn.Module, records: torch.Tensor) -> torch.Tensor:
    with _same_draws():
        try:
            logits: Any = module(records)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            written = ", ".join(map(str, records.shape[1:]))
            raise ModelError(
                f"the model does not fit records of shape (n, {written}): {error}"
            ) from error
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape not in ((len(records), 1), (len(records),)):
        raise ModelError(
            f"the model returns {shape} of {len(records)} records; return one logit for each, "
            "shape (n, 1)"
        )
    tensor: torch.Tensor = logits
    return tensor.reshape(-1)


@contextmanager
def _same_draws() -> Iterator[None]:
    """Dropout leaves out the same each time; the CPU's generator is then put back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def _replacement(layer: nn.Module) -> str | None:
    # Opacus's own are subclasses of none of these.
    return next((use for kind, use in _REPLACED.items() if isinstance(layer, kind)), None)


def _at(path: str, layer: nn.Module) -> str:
    return f"layer {path or '(the model itself)'!r} ({type(layer).__name__})"


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
