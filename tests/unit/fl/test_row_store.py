"""Rows in memory or on the disk: the same array, and no file is left."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.row_store import RowStore, chosen_rows, forget_pages, slices


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 9), max_size=6), limit=st.sampled_from([0, 100, 1 << 20]))
def test_the_rows_are_those_appended_wherever_they_lie(sizes: list[int], limit: int) -> None:
    store = RowStore((2, 3), np.float32, in_memory_bytes=limit)
    blocks = [np.random.default_rng(size).normal(size=(size, 2, 3)) for size in sizes]
    for block in blocks:
        store.append(block)
    expected = np.concatenate([np.empty((0, 2, 3)), *blocks]).astype(np.float32)
    found = store.array()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert isinstance(found, np.memmap) == (expected.nbytes > limit)


def on_disk(rows: int = 50) -> np.memmap:
    store = RowStore((3,), np.float32, in_memory_bytes=0)
    store.append(np.arange(rows * 3, dtype=np.float32).reshape(rows, 3))
    found = store.array()
    assert isinstance(found, np.memmap)
    return found


def test_the_file_has_no_name_and_outlives_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = on_disk()
    assert os.listdir(tmp_path) == []
    forget_pages(found)
    assert found[49].tolist() == [147, 148, 149]
    assert torch.from_numpy(found).sum() == sum(range(150))  # and PyTorch warns of nothing


def test_rows_are_chosen_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl.row_store.IN_MEMORY_BYTES", 100)
    monkeypatch.setattr("fl.row_store._BLOCK_BYTES", 50)
    array, chosen = on_disk(), np.arange(50) % 3 == 0
    found = chosen_rows(array, chosen)
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, np.asarray(array)[chosen])


def test_slices_cover_all_rows_once() -> None:
    parts = list(slices(20, 4 << 20))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(20))
    assert len(parts) == 10
    assert list(slices(0, 8)) == []


def test_rows_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        RowStore((3,), np.float32).append(np.zeros((1, 4)))
