"""The wire format: what every payload between hospital and coordinator looks like. No pickle.

    data = pack("weights", {"model": "breast-cancer"}, {"linear.weight": weight})
    frame = unpack(data, kind="weights", max_bytes=1 << 20)

Layout, in order::

    4 bytes   marker "FMED"
    1 byte    version
    4 bytes   length of the head, little-endian
    head      JSON in canonical form: {"arrays": [[name, dtype, shape], …], "head": {…}, "kind": …}
    buffers   the arrays in the order of the head, row-major, little-endian, nothing between them
    32 bytes  SHA-256 of all before

A reader checks size and digest before it looks further, and accepts one spelling only of every
content: canonical JSON (sorted keys, no spaces, no NaN), allowed types, no byte left over.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fl.errors import WireError

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None

MARKER = b"FMED"
VERSION = 1
DTYPES = frozenset(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)) | {
    "float32",
    "float64",
}
MAX_HEAD_BYTES = 1 << 20
_MAX_DEPTH = 16
_MAX_DIMENSIONS = 8
_MAX_ELEMENTS = 1 << 40
_PREFIX = struct.Struct("<4sBI")
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A payload that was read.

    Attributes:
        kind: what the payload is, such as ``weights``.
        head: small values beside the arrays.
        arrays: by name, in the order in which they were packed; each owns its memory.
    """

    kind: str
    head: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]


def pack(kind: str, head: Mapping[str, Json], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Returns the bytes of a payload.

    Args:
        kind: what the payload is; the reader must expect the same.
        head: JSON values; numbers are finite, integers fit 64 bits.
        arrays: by name; finite, of a type in ``DTYPES``, at most eight dimensions.

    Raises:
        WireError: a value that the format does not carry; the message names it.
    """
    buffers = {name: _packable(name, array) for name, array in arrays.items()}
    entries = [[name, a.dtype.name, list(a.shape)] for name, a in buffers.items()]
    encoded = _canonical({"arrays": entries, "head": head, "kind": kind})
    if len(encoded) > MAX_HEAD_BYTES:
        raise WireError(f"head: {len(encoded)} bytes are more than {MAX_HEAD_BYTES}")
    parts: list[bytes | memoryview] = [_PREFIX.pack(MARKER, VERSION, len(encoded)), encoded]
    parts += [buffer.data.cast("B") for buffer in buffers.values() if buffer.size]
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    return b"".join([*parts, hasher.digest()])


def unpack(data: bytes, *, kind: str, max_bytes: int) -> Frame:
    """Reads a payload.

    Args:
        data: what ``pack`` returned.
        kind: what the payload must be.
        max_bytes: a longer payload is refused unread.

    Raises:
        WireError: the one error for all that can be wrong with the data.
    """
    if not _PREFIX.size + _DIGEST_BYTES <= len(data) <= max_bytes:
        raise WireError(
            f"{kind}: {len(data)} bytes; from {_PREFIX.size + _DIGEST_BYTES} to {max_bytes} are "
            f"accepted"
        )
    content = memoryview(data)[:-_DIGEST_BYTES]
    marker, version, head_bytes = _PREFIX.unpack_from(content)
    if marker != MARKER or version != VERSION:
        raise WireError(f"{kind}: not a frame of version {VERSION}: starts with {data[:5]!r}")
    if hashlib.sha256(content).digest() != data[-_DIGEST_BYTES:]:
        raise WireError(f"{kind}: the digest does not match: the payload was changed or cut")
    start = _PREFIX.size + head_bytes
    if head_bytes > MAX_HEAD_BYTES or start > len(content):
        raise WireError(f"{kind}: a head of {head_bytes} bytes is too long")
    found, head, entries = _read_head(bytes(content[_PREFIX.size : start]))
    if found != kind:
        raise WireError(f"kind: {kind!r} is expected, the payload is {found!r}")
    return Frame(kind, head, _read_arrays(entries, content[start:]))


def _packable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Returns the array row-major and little-endian, if the format carries it."""
    if array.dtype.name not in DTYPES:
        raise WireError(f"array {name!r}: dtype {array.dtype} is not carried")
    _check_shape(name, array.shape)
    _check_finite(name, array)
    return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)


def _check_shape(name: str, shape: Sequence[int]) -> None:
    """Refuses what is no shape, or one that numpy cannot hold."""
    if len(shape) > _MAX_DIMENSIONS:
        raise WireError(f"array {name!r}: {len(shape)} dimensions, {_MAX_DIMENSIONS} at most")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise WireError(f"array {name!r}: {shape} is no shape")
    # A zero would hide absurd sizes beside it, which overflow further on.
    if math.prod(size or 1 for size in shape) > _MAX_ELEMENTS:
        raise WireError(f"array {name!r}: shape {shape} is too large")


def _check_finite(name: str, array: NDArray[Any]) -> None:
    """Refuses NaN and infinities."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise WireError(f"array {name!r}: it holds NaN or infinity")


def _canonical(value: Json) -> bytes:
    """Returns the one accepted spelling of a JSON value."""
    _check_json(value, depth=0)
    text = json.dumps(
        value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), sort_keys=True
    )
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise WireError(f"head: text that is not Unicode: {error.reason}") from error


def _check_json(value: Json, *, depth: int) -> None:
    """Refuses what JSON would change or cannot hold."""
    if depth > _MAX_DEPTH:
        raise WireError(f"head: nested deeper than {_MAX_DEPTH}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise WireError(f"head: the key {key!r} is not text")
            _check_json(item, depth=depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_json(item, depth=depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise WireError(f"head: {value} is not finite")
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise WireError("head: an integer that does not fit 64 bits")
    elif not (value is None or isinstance(value, str)):
        raise WireError(f"head: {type(value).__name__} is not carried")


def _read_head(encoded: bytes) -> tuple[str, dict[str, Any], list[Any]]:
    """Returns kind, head and the list of arrays."""
    try:
        value = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise WireError(f"head: not JSON: {type(error).__name__}") from error
    if _canonical(value) != encoded:
        raise WireError("head: not in canonical form")
    match value:
        case {"kind": str(kind), "head": dict(head), "arrays": list(entries)} if len(value) == 3:
            return kind, head, entries
    raise WireError("head: exactly kind, head and arrays are expected")


def _read_arrays(entries: list[Any], body: memoryview) -> dict[str, NDArray[Any]]:
    """Reads the buffers, which must fill the body exactly."""
    arrays: dict[str, NDArray[Any]] = {}
    position = 0
    for entry in entries:
        name, dtype, shape = _read_entry(entry)
        if name in arrays:
            raise WireError(f"array {name!r}: it is listed twice")
        count = math.prod(shape)
        if count * dtype.itemsize > len(body) - position:
            raise WireError(f"array {name!r}: shape {shape} is longer than the payload")
        array = np.frombuffer(body, dtype, count, position).reshape(shape).copy()
        _check_finite(name, array)
        arrays[name] = array
        position += array.nbytes
    if position != len(body):
        raise WireError(f"{len(body) - position} bytes follow the last array")
    return arrays


def _read_entry(entry: Any) -> tuple[str, np.dtype[Any], list[int]]:
    """Returns name, type and shape of one array."""
    match entry:
        case [str(name), str(dtype), list(shape)] if dtype in DTYPES:
            _check_shape(name, shape)
            return name, np.dtype(dtype).newbyteorder("<"), shape
    raise WireError("arrays: an entry is not [name, dtype, shape] of an allowed dtype")
