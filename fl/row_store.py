"""Rows that grow block by block, in memory while they are few and on the disk when they are many.

    store = RowStore((30,), np.float32)
    store.append(block)  # (m, 30)
    store.array()        # (n, 30)

What lies on the disk is a file without a name in the folder for temporary files, so that it goes
with the process. It is written as a file and mapped afterwards: a page that is written through a
mapping counts as this process's memory, a page of the file does not.
"""

from __future__ import annotations

import mmap
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

IN_MEMORY_BYTES: Final = 128 << 20
"""More than this lies on the disk; twice that is in memory while blocks become one array."""

_BLOCK_BYTES: Final = 8 << 20


class RowStore:
    """Rows of one shape and type, appended in blocks.

    Args:
        shape: of a row.
        dtype: of its values.
        in_memory_bytes: how much is held in memory before all of it moves to the disk;
            ``IN_MEMORY_BYTES`` unless told.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: DTypeLike, *, in_memory_bytes: int | None = None
    ) -> None:
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._in_memory_bytes = IN_MEMORY_BYTES if in_memory_bytes is None else in_memory_bytes
        self._blocks: list[NDArray[Any]] = []
        self._bytes = 0
        self._rows = 0
        self._file: BinaryIO | None = None

    def append(self, rows: NDArray[Any]) -> None:
        """Adds rows of shape (m, *shape).

        Raises:
            ValueError: rows of another shape.
            OSError: the disk is full.
        """
        if rows.shape[1:] != self._shape:
            raise ValueError(f"rows of shape {rows.shape[1:]} in a store of {self._shape}")
        block = np.ascontiguousarray(rows, self._dtype)
        self._rows += len(block)
        self._bytes += block.nbytes
        self._blocks.append(block)
        if self._file is not None or self._bytes > self._in_memory_bytes:
            self._to_disk()

    def array(self) -> NDArray[Any]:
        """Returns all rows: an array, or a mapping of the file (``numpy.memmap``)."""
        shape = (self._rows, *self._shape)
        if self._file is None:
            return np.concatenate([np.empty((0, *self._shape), self._dtype), *self._blocks])
        self._file.flush()
        # Shared, not private: private pages count against what a child may use (RLIMIT_DATA). To
        # be written to, although nobody writes: PyTorch warns of arrays that cannot be.
        return np.memmap(self._file, self._dtype, mode="r+", shape=shape)

    def _to_disk(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="fedmed-rows-")
            # With the store, whether or not an array was made of it; a mapping outlives its file.
            weakref.finalize(self, self._file.close)
        for block in self._blocks:
            self._file.write(block.data)
        self._blocks.clear()


def slices(rows: int, row_bytes: int) -> Iterator[slice]:
    """Yields slices of so many rows as make a block of some megabytes, one after the other."""
    step = max(1, _BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def chosen_rows(array: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[Any]:
    """Returns the chosen rows (bool, shape (n,)) of an array, on the disk if they are many."""
    if array.nbytes <= IN_MEMORY_BYTES:
        return np.asarray(array[chosen])
    store = RowStore(array.shape[1:], array.dtype)
    for part in slices(len(array), array.nbytes // len(array)):
        store.append(array[part][chosen[part]])
        forget_pages(array)
    return store.array()


def forget_pages(array: NDArray[Any]) -> None:
    """Lets go of the pages of a store's file that have been read; they count as memory in use.

    A later reader finds them again. Arrays in memory stay as they are.
    """
    base: object = array.base
    if isinstance(array, np.memmap) and array.mode == "r+" and isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)
