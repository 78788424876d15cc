"""Bytes by party as arrays of a frame: the ascending indices, and a row of bytes for each.

arrays = rows("signatures", {2: b"...", 5: b"..."}, 64)     # "signatures.indices", "signatures"
signatures = read_rows(frame, "signatures", 64)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.errors import WireError
from fl.wire import Frame
from privacy.secagg.parameters import MOST_PARTIES


def row(value: bytes) -> NDArray[np.uint8]:
    """Bytes as an array."""
    return np.frombuffer(value, np.uint8)


def indices(parties: Iterable[int]) -> NDArray[np.uint32]:
    """Parties as an array, ascending."""
    return np.array(sorted(parties), np.uint32)


def rows(name: str, values: Mapping[int, bytes], size: int) -> dict[str, NDArray[Any]]:
    """Bytes by party as two arrays: the ascending indices, one row for each."""
    for index, value in values.items():
        if len(value) != size:
            raise WireError(f"{name}: {size} bytes are needed for {index}, not {len(value)}")
    joined = b"".join(values[index] for index in sorted(values))
    return {
        f"{name}.indices": indices(values),
        name: np.frombuffer(joined, np.uint8).reshape(len(values), size),
    }


def matrix(
    name: str, values: Mapping[int, Mapping[int, bytes]], size: int
) -> dict[str, NDArray[Any]]:
    """Bytes by dealer and receiver as three arrays: dealers, receivers, one row for each pair."""
    receivers = {tuple(sorted(by_receiver)) for by_receiver in values.values()} or {()}
    if len(receivers) > 1:
        raise WireError(f"{name}: the dealers do not have the same receivers")
    (columns,) = receivers
    stacked = [rows(name, values[dealer], size)[name] for dealer in sorted(values)]
    return {
        f"{name}.indices": indices(values),
        f"{name}.receivers": indices(columns),
        name: np.stack(stacked) if stacked else np.zeros((0, 0, size), np.uint8),
    }


def read_number(frame: Frame, name: str, most: int) -> int:
    """Reads an integer of 1 to ``most`` from the head."""
    value = frame.head.get(name)
    if type(value) is not int or not 1 <= value <= most:
        raise WireError(f"{frame.kind}: {name} must be an integer of 1 to {most}")
    return value


def read_array(
    frame: Frame, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """Reads an array of known type and shape."""
    array = frame.arrays[name]
    if array.dtype != dtype or array.shape != shape:
        raise WireError(
            f"{frame.kind}: {name} must be {dtype} {shape}, it is {array.dtype} {array.shape}"
        )
    return array


def read_row(frame: Frame, name: str, size: int) -> bytes:
    """Reads bytes of known size."""
    return read_array(frame, name, np.dtype(np.uint8), (size,)).tobytes()


def read_rows(frame: Frame, name: str, size: int) -> dict[int, bytes]:
    """Reads bytes by party."""
    parties = read_indices(frame, f"{name}.indices")
    values = read_array(frame, name, np.dtype(np.uint8), (len(parties), size))
    return {party: value.tobytes() for party, value in zip(parties, values, strict=True)}


def read_matrix(frame: Frame, name: str, size: int) -> dict[int, dict[int, bytes]]:
    """Reads bytes by dealer and receiver."""
    dealers = read_indices(frame, f"{name}.indices")
    receivers = read_indices(frame, f"{name}.receivers")
    shape = (len(dealers), len(receivers), size)
    values = read_array(frame, name, np.dtype(np.uint8), shape)
    return {
        dealer: {party: value.tobytes() for party, value in zip(receivers, dealt, strict=True)}
        for dealer, dealt in zip(dealers, values, strict=True)
    }


def read_indices(frame: Frame, name: str) -> tuple[int, ...]:
    """Reads parties."""
    count = frame.arrays[name].size
    parties: list[int] = read_array(frame, name, np.dtype("<u4"), (count,)).tolist()
    if parties != sorted(set(parties)) or not all(1 <= i <= MOST_PARTIES for i in parties):
        raise WireError(f"{frame.kind}: {name}: indices must ascend within 1 to {MOST_PARTIES}")
    return tuple(parties)
