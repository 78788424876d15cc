"""Weights as Flower's arrays, and back.

record = record_of(weights)
update = change_between(reply.content.array_records["arrays"], record)
"""

from __future__ import annotations

import math

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from fl.errors import RoundError
from fl.weights import Weights, WeightsLayout


def record_of(weights: Weights) -> ArrayRecord:
    """Returns weights as Flower's arrays, in the order of their names.

    Flower pairs some arrays by position, so the order must be the same in every process.
    """
    return ArrayRecord({name: Array(weights[name]) for name in sorted(weights)})


def weights_in(record: ArrayRecord, *, like: WeightsLayout) -> Weights:
    """Returns Flower's arrays as float32 weights in the order of their names.

    Raises:
        RoundError: names or shapes that differ from the layout's.
    """
    if _shapes(record) != dict(zip(like.names, like.shapes, strict=True)):
        raise RoundError("arrays that differ from the model's weights in names or shapes")
    # FedAdam computes in float64; weights travel and are stored as float32.
    return {name: record[name].numpy().astype(np.float32, copy=False) for name in like.names}


def parameters_in(record: ArrayRecord) -> int:
    """Returns the number of parameters."""
    return sum(math.prod(shape) for shape in _shapes(record).values())


def change_between(trained: ArrayRecord, incoming: ArrayRecord) -> NDArray[np.float32]:
    """Returns by how much training has changed the weights, in the order of their names.

    Both records are emptied on the way: a large layer is in memory once, packed or unpacked.

    Args:
        trained: float32 arrays of the same names and shapes as ``incoming``.
        incoming: what training started from.

    Returns:
        float32, shape (parameters,).

    Raises:
        RoundError: names or shapes that differ.
    """
    if _shapes(trained) != _shapes(incoming):
        raise RoundError("arrays that differ from the incoming weights in names or shapes")
    update = np.empty(parameters_in(incoming), np.float32)
    start = 0
    for name in sorted(incoming):
        after, before = trained.pop(name).numpy(), incoming.pop(name).numpy()
        stop = start + after.size
        np.subtract(after.reshape(-1), before.reshape(-1), out=update[start:stop])
        start = stop
    return update


def _shapes(record: ArrayRecord) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in record.items()}
