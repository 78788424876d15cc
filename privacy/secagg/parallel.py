"""Several processes that work on the parts of one array.

    over_parts(vector, mask_part, (add, subtract), workers=4, multiple=65_536)

Processes, not threads: the cipher of ``cryptography`` holds the interpreter's lock. They are
spawned, never forked, since the caller may have threads; the array lies in shared memory that only
this user can read and that is gone when the call returns; arguments such as keys go through a pipe.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from typing import Any, TypeVarTuple

import numpy as np
from numpy.typing import NDArray

Args = TypeVarTuple("Args")


def over_parts(
    array: NDArray[Any],
    work: Callable[[NDArray[Any], int, *Args], None],
    arguments: tuple[*Args],
    *,
    workers: int,
    multiple: int,
) -> None:
    """Calls ``work(part, start, *arguments)`` on parts that make up the array; it changes them.

    The caller's process works on one part, as many others as ``workers`` less one on the rest.

    Args:
        array: contiguous, one dimension.
        work: a function of a module, so that another process can import it.
        arguments: what else it is given; they must travel to another process.
        workers: processes, this one included.
        multiple: parts start at multiples of so many elements.

    Raises:
        BrokenProcessPool: a process died; as after any error, the array is as it was.
    """
    bounds = _bounds(len(array), workers, multiple)
    if len(bounds) == 1:
        work(array, 0, *arguments)
        return
    shared = SharedMemory(create=True, size=array.nbytes)
    try:
        view = np.ndarray(array.shape, array.dtype, shared.buf)
        view[:] = array
        with ProcessPoolExecutor(len(bounds) - 1, mp_context=get_context("spawn")) as pool:
            others = [
                pool.submit(_work_on, shared.name, array.dtype.str, part, work, arguments)
                for part in bounds[1:]
            ]
            start, stop = bounds[0]
            work(view[start:stop], start, *arguments)
            for other in others:
                other.result()
        array[:] = view
        del view
    finally:
        shared.close()
        shared.unlink()


def _bounds(length: int, workers: int, multiple: int) -> list[tuple[int, int]]:
    """Returns start and end of at most so many parts, about equal."""
    blocks = -(-length // multiple)
    parts = max(1, min(workers, blocks))
    edges = [blocks * part // parts * multiple for part in range(parts)] + [length]
    return list(pairwise(edges))


def _work_on(
    name: str,
    dtype: str,
    part: tuple[int, int],
    work: Callable[[NDArray[Any], int, *Args], None],
    arguments: tuple[*Args],
) -> None:
    """In another process: works on one part of the shared array."""
    start, stop = part
    shared = SharedMemory(name=name)
    try:
        itemsize = np.dtype(dtype).itemsize
        view: NDArray[Any] = np.ndarray((stop - start,), dtype, shared.buf, start * itemsize)
        work(view, start, *arguments)
        del view
    finally:
        shared.close()
