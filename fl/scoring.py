"""What a module says of records: probabilities, part by part, whatever the device.

scores = scores_of_records(module, table.features)
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl.batches import taken
from fl.device import placed

# Of a part's input: 16 MB, to which a deep network adds some twenty times as much.
_PART_VALUES: Final = 1 << 22


def scores_of_records(
    module: nn.Module,
    features: NDArray[np.float32] | NDArray[np.uint8],
    *,
    device: torch.device | None = None,
) -> NDArray[np.float32]:
    """Returns the probability of the positive class for each record, shape (n,).

    Args:
        module: it is left on the CPU, in evaluation mode.
        features: as in a `Table`, shape (n, …); may lie on disk.
        device: to run on; None for the best.
    """
    logits = outputs_of(module, features, device=device)
    return torch.sigmoid(torch.from_numpy(logits).reshape(len(features))).numpy()


def outputs_of(
    module: nn.Module,
    features: NDArray[np.float32] | NDArray[np.uint8],
    *,
    device: torch.device | None = None,
) -> NDArray[np.float32]:
    """Returns what a module writes of each record, shape (n, …); as `scores_of_records`."""
    records = max(1, _PART_VALUES // max(1, math.prod(features.shape[1:])))
    parts = []
    module.eval()
    with placed(module, device) as on, torch.inference_mode():
        for start in range(0, max(1, len(features)), records):
            part = taken(features, slice(start, start + records)).to(on)
            parts.append(module(part).cpu().numpy())
    return np.concatenate(parts)
