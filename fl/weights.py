"""A model's weights as numpy arrays, and their bytes and hash; free of PyTorch.

    data = encode_weights(weights)
    weights_hash(data)  # under which the exchange serves them
    vector = flatten(decode_weights(data, like=layout(weights)))

The one order of weights, in bytes and in vectors, is that of their names: it is the same in every
process, whatever order a mapping has.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fl.errors import ModelError
from fl.wire import pack, unpack

Weights: TypeAlias = Mapping[str, NDArray[np.float32]]

KIND: Final = "weights"
MAX_WEIGHTS_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class WeightsLayout:
    """Names and shapes of a model's weights, in the order of their names.

    Attributes:
        names: sorted, none twice.
        shapes: one for each name.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.shapes) or list(self.names) != sorted(set(self.names)):
            raise ModelError(f"layout: names {self.names} must be sorted, one for each shape")

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes)


def layout(weights: Weights) -> WeightsLayout:
    """Returns the layout of weights."""
    names = tuple(sorted(weights))
    return WeightsLayout(names, tuple(weights[name].shape for name in names))


def check_layout(weights: Weights, expected: WeightsLayout) -> None:
    """Holds weights to a layout and to float32.

    Raises:
        ModelError: a name is missing or unknown, or an array has another shape or type.
    """
    missing = sorted(set(expected.names) - set(weights))
    unknown = sorted(set(weights) - set(expected.names))
    if missing or unknown:
        raise ModelError(f"weights: missing {missing}, unknown {unknown}")
    for name, shape in zip(expected.names, expected.shapes, strict=True):
        if weights[name].shape != shape:
            raise ModelError(f"weight {name!r}: shape {weights[name].shape}, expected {shape}")
        if weights[name].dtype != np.float32:
            raise ModelError(f"weight {name!r}: {weights[name].dtype}, expected float32")


def encode_weights(weights: Weights) -> bytes:
    """Returns weights in the wire format; equal weights give equal bytes.

    Raises:
        ModelError: an array is not float32.
        WireError: a value is not finite.
    """
    check_layout(weights, layout(weights))
    return pack(KIND, {}, {name: weights[name] for name in sorted(weights)})


def decode_weights(
    data: bytes, *, like: WeightsLayout | None = None, max_bytes: int = MAX_WEIGHTS_BYTES
) -> Weights:
    """Reads weights.

    Args:
        data: what ``encode_weights`` returned.
        like: the layout that the weights must have.
        max_bytes: longer data is refused unread.

    Returns:
        Arrays in the order of their names.

    Raises:
        WireError: the data is no frame of weights.
        ModelError: the arrays are not float32 in the order of their names, or not laid out as
            ``like``.
    """
    arrays = unpack(data, kind=KIND, max_bytes=max_bytes).arrays
    if list(arrays) != sorted(arrays):
        raise ModelError("weights: the arrays are not in the order of their names")
    check_layout(arrays, like if like is not None else layout(arrays))
    return arrays


def weights_hash(data: bytes) -> str:
    """Returns the SHA-256 of encoded weights, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def flatten(weights: Weights) -> NDArray[np.float32]:
    """Returns all weights as one vector in the order of their names: float32, shape (p,)."""
    if not weights:
        return np.zeros(0, np.float32)
    return np.concatenate([weights[name].reshape(-1) for name in sorted(weights)]).astype(
        np.float32, copy=False
    )


def unflatten(vector: NDArray[np.float32], layout: WeightsLayout) -> Weights:
    """Returns the weights whose ``flatten`` is ``vector``, in new float32 arrays.

    Args:
        vector: shape (p,).
        layout: of p parameters.

    Raises:
        ModelError: a vector of another shape.
    """
    if vector.shape != (layout.size,):
        raise ModelError(f"vector of shape {vector.shape}: the layout has {layout.size} parameters")
    weights, start = {}, 0
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        stop = start + math.prod(shape)
        weights[name] = vector[start:stop].astype(np.float32).reshape(shape)
        start = stop
    return weights
