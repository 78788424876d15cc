"""Masks: AES-256-CTR keystreams added to a vector modulo 2^16 or 2^32, one block at a time.

    apply_masks(vector, add=[key_a], subtract=[key_b])

Vector and keystream stay in the processor's cache, so that the speed is that of the cipher. Every
key is used for one vector only, hence the counter starts at zero (NIST SP 800-38A, section 6.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from privacy.secagg.parallel import over_parts

MaskedVector: TypeAlias = NDArray[np.unsignedinteger[Any]]
Fill: TypeAlias = Callable[[int, MaskedVector], None]

BLOCK_ELEMENTS = 1 << 16
BLOCK_BYTES = 4 * BLOCK_ELEMENTS  # 256 KiB of uint32
AES_BLOCK_BYTES = 16
# Below so much keystream, starting a process and copying the vector (0.4 s) takes longer than half
# of the work: 100 parties and 10^7 elements are just at it.
PARALLEL_BYTES = 4 << 30
_ZEROS = memoryview(bytes(BLOCK_BYTES))


class Keystream:
    """The keystream of one key, read in order.

    Args:
        key: 32 bytes.
        start_block: how many AES blocks of 16 bytes to leave out before the first byte.
    """

    def __init__(self, key: bytes, *, start_block: int = 0) -> None:
        counter = start_block.to_bytes(AES_BLOCK_BYTES, "big")
        self._encryptor = Cipher(AES(key), CTR(counter)).encryptor()

    def read_into(self, elements: NDArray[Any]) -> None:
        """Overwrites a contiguous array of at most 256 KiB with the next bytes of the stream."""
        self._encryptor.update_into(_ZEROS[: elements.nbytes], elements.data.cast("B"))


def apply_masks(
    vector: MaskedVector,
    *,
    add: Sequence[bytes],
    subtract: Sequence[bytes],
    fill: Fill | None = None,
    workers: int = 1,
) -> None:
    """Adds and subtracts the masks of the keys, in place, modulo the vector's type.

    Args:
        vector: uint16 or uint32, one dimension, little-endian.
        add: keys of 32 bytes whose masks are added.
        subtract: keys of 32 bytes whose masks are subtracted.
        fill: writes the elements of a block, given its start, before it is masked.
        workers: processes that share the work on a large vector; the result does not depend on it.
    """
    keystream_bytes = vector.nbytes * (len(add) + len(subtract))
    if workers == 1 or keystream_bytes < PARALLEL_BYTES:
        _mask(vector, 0, add, subtract, fill)
        return
    if fill is not None:
        for start in range(0, len(vector), BLOCK_ELEMENTS):
            fill(start, vector[start : start + BLOCK_ELEMENTS])
    over_parts(vector, _mask, (add, subtract), workers=workers, multiple=BLOCK_ELEMENTS)


def _mask(
    part: MaskedVector,
    offset: int,
    add: Sequence[bytes],
    subtract: Sequence[bytes],
    fill: Fill | None = None,
) -> None:
    """Masks the part of a vector that begins at an offset, a multiple of the block's length."""
    start_block = offset * part.itemsize // AES_BLOCK_BYTES
    added = [Keystream(key, start_block=start_block) for key in add]
    subtracted = [Keystream(key, start_block=start_block) for key in subtract]
    buffer = np.empty(BLOCK_ELEMENTS, part.dtype)
    for start in range(0, len(part), BLOCK_ELEMENTS):
        block = part[start : start + BLOCK_ELEMENTS]
        mask = buffer[: len(block)]
        if fill is not None:
            fill(start, block)
        for stream in added:
            stream.read_into(mask)
            np.add(block, mask, out=block)
        for stream in subtracted:
            stream.read_into(mask)
            np.subtract(block, mask, out=block)
