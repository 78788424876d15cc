"""The same masks, to the bit, however many processes share the work."""

from __future__ import annotations

import threading
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privacy.secagg import masking
from privacy.secagg.masking import BLOCK_ELEMENTS, apply_masks
from privacy.secagg.parallel import _work_on, over_parts

KEYS = [bytes([number]) * 32 for number in range(6)]
LENGTH = 3 * BLOCK_ELEMENTS + 11


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "PARALLEL_BYTES", 0)


def masked(dtype: Any, workers: int) -> Any:
    def fill(start: int, block: Any) -> None:
        block[:] = np.arange(start, start + len(block)).astype(dtype)

    vector = np.zeros(LENGTH, dtype)
    apply_masks(vector, add=KEYS[:4], subtract=KEYS[4:], fill=fill, workers=workers)
    return vector


@pytest.mark.parametrize(("dtype", "workers"), [(np.uint16, 2), (np.uint32, 2), (np.uint32, 9)])
def test_the_result_does_not_depend_on_the_number_of_workers(
    always: None, dtype: Any, workers: int
) -> None:
    assert np.array_equal(masked(dtype, workers), masked(dtype, 1))


def test_masks_alone_are_shared_as_well(always: None) -> None:
    vectors = []
    for workers in (1, 2):
        vector = np.arange(LENGTH, dtype=np.uint32)
        apply_masks(vector, add=KEYS[:1], subtract=KEYS[1:], workers=workers)
        vectors.append(vector)
    assert np.array_equal(*vectors)


def test_one_block_needs_no_other_process() -> None:
    array = np.full(10, -1)
    over_parts(array, np.copyto, (), workers=8, multiple=10)
    assert array.tolist() == [0] * 10


def test_another_process_works_on_its_part_alone() -> None:
    """What runs elsewhere, run here."""
    shared = SharedMemory(create=True, size=8 * 10)
    try:
        shared.buf[:] = bytes(80)
        _work_on(shared.name, "<i8", (4, 7), np.copyto, ())
        assert list(shared.buf.cast("q")) == [0, 0, 0, 0, 4, 4, 4, 0, 0, 0]
    finally:
        shared.close()
        shared.unlink()


def test_small_work_stays_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was asked for")

    monkeypatch.setattr(masking, "over_parts", refused)
    assert np.array_equal(masked(np.uint32, 8), masked(np.uint32, 1))


def shared_segments() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("psm_*")}  # noqa: S108 - where they lie


# Another process must be able to import the work, and it cannot import this module: np.copyto(part,
# start) writes into each part where it starts.


def test_each_part_is_worked_on_where_it_starts_beside_threads() -> None:
    before, done = shared_segments(), threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        array = np.full(25, -1)
        over_parts(array, np.copyto, (), workers=3, multiple=10)
    finally:
        done.set()
        thread.join()
    assert array.tolist() == [0] * 10 + [10] * 10 + [20] * 5
    assert shared_segments() == before


def test_an_error_in_another_process_leaves_the_array_as_it_was_and_nothing_behind() -> None:
    before = shared_segments()
    array = np.full(400, -1, np.int8)
    with pytest.raises(OverflowError):
        over_parts(array, np.copyto, (), workers=2, multiple=100)  # 200 fits no int8
    assert set(array.tolist()) == {-1}
    assert shared_segments() == before
