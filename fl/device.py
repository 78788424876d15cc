"""Where a module runs: a CUDA device where there is one, else the processor.

    with placed(module, best_device()) as device:
        module(records.to(device))

Records are moved part by part and results come back; a module is on the CPU before and after. Noise
is drawn on the CPU, by the project's own generator, wherever the module runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn

CPU: Final = torch.device("cpu")


def best_device() -> torch.device:
    """Returns the device to run on.

    To ask is to begin with CUDA, which a process that has begun with it cannot fork: a warm process
    must not call this, its children may.
    """
    return torch.device("cuda") if torch.cuda.is_available() else CPU


@contextmanager
def placed(module: nn.Module, device: torch.device | None) -> Iterator[torch.device]:
    """Puts a module on a device (None: the best) for as long as the block runs.

    Convolutions are computed in float32 throughout there: TF32 keeps ten bits, so that a gradient
    could be longer than the norm that it was clipped by.
    """
    device = best_device() if device is None else device
    if device.type == "cpu":
        yield device
        return
    module.to(device)
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield device
    finally:
        module.to(CPU)
