"""Which rows are held out: a matter of the row, or its patient, and of the hospital's key alone."""

from __future__ import annotations

import hashlib
import hmac
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl import row_store
from fl.split import split
from fl.table import Table

KEY = b"k" * 32


def table_of(rows: list[list[float]]) -> Table:
    array = np.asarray(rows, np.float32).reshape(len(rows), 3)
    return Table(array[:, :2], array[:, 2])


def rows_of(table: Table) -> list[tuple[float, ...]]:
    return [(*map(float, x), float(y)) for x, y in zip(table.features, table.labels, strict=True)]


ROW = st.tuples(st.floats(-1, 1, width=32), st.floats(-1, 1, width=32), st.sampled_from([0.0, 1.0]))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(ROW, max_size=30), others=st.lists(ROW, max_size=10), random=st.randoms())
def test_a_row_keeps_its_side(rows: list, others: list, random: object) -> None:
    before = split(table_of(rows), key=KEY)
    assert sorted(rows_of(before.train) + rows_of(before.held_out)) == sorted(map(tuple, rows))
    mixed = rows + others + rows
    random.shuffle(mixed)  # type: ignore[attr-defined]
    after = split(table_of(mixed), key=KEY)
    assert not set(rows_of(after.train)) & set(rows_of(after.held_out))
    assert set(rows_of(before.held_out)) <= set(rows_of(after.held_out))
    assert set(rows_of(before.train)) <= set(rows_of(after.train))


def test_the_share_and_the_key_decide_the_split() -> None:
    rng = np.random.default_rng(7)
    table = Table(rng.uniform(-1, 1, (4000, 2)).astype(np.float32), np.zeros(4000, np.float32))
    one, other = split(table, key=KEY), split(table, key=b"o" * 32)
    assert 700 < len(one.held_out) < 900
    assert set(rows_of(one.held_out)) != set(rows_of(other.held_out))
    assert 340 < len(split(table, key=KEY, held_out=0.1).held_out) < 460


@pytest.mark.parametrize(("key", "share"), [(b"short", 0.25), (KEY, 0.0), (KEY, 1.0)])
def test_a_weak_key_or_an_empty_share_is_refused(key: bytes, share: float) -> None:
    with pytest.raises(ValueError, match="split"):
        split(table_of([[0, 0, 0]]), key=key, held_out=share)


def test_a_side_is_what_it_always_was() -> None:
    """The HMAC of the row's bytes: a change would move rows from one side to the other."""
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(200, 3)).astype(np.float32), rng.integers(0, 2, 200)
    table = Table(features, labels.astype(np.float32))
    content = np.column_stack([features, labels]).astype("<f4")
    digests = [hmac.digest(KEY, row.tobytes(), hashlib.sha256) for row in content]
    out = [int.from_bytes(digest[:8], "big") < int(0.2 * 2**64) for digest in digests]
    np.testing.assert_array_equal(split(table, key=KEY).held_out.features, features[out])


def test_an_empty_cell_is_an_empty_cell_in_whatever_bytes() -> None:
    other = np.frombuffer(np.uint32(0xFFC00001).tobytes(), np.float32)[0]
    assert math.isnan(other)
    for number in range(50):
        tables = [
            Table(np.array([[nan, number]], np.float32), np.zeros(1, np.float32))
            for nan in (np.nan, other)
        ]
        one, another = (len(split(table, key=KEY).held_out) for table in tables)
        assert one == another


def test_images_are_split_too() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (300, 1, 8, 8)).astype(np.uint8)
    table = Table(pixels, np.zeros(300, np.float32))
    parts = split(table, key=KEY)
    assert 30 < len(parts.held_out) < 90
    assert parts.train.features.dtype == np.uint8
    mirrored = split(Table(pixels[::-1].copy(), table.labels), key=KEY)
    np.testing.assert_array_equal(mirrored.held_out.features[::-1], parts.held_out.features)


def test_many_rows_stay_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    table = Table(rng.normal(size=(5000, 4)).astype(np.float32), np.zeros(5000, np.float32))
    in_memory = split(table, key=KEY)
    monkeypatch.setattr(row_store, "IN_MEMORY_BYTES", 1000)
    on_disk = split(table, key=KEY)
    assert isinstance(on_disk.train.features, np.memmap)
    np.testing.assert_array_equal(on_disk.train.features, in_memory.train.features)
    np.testing.assert_array_equal(on_disk.held_out.features, in_memory.held_out.features)
    again = split(on_disk.train, key=KEY)
    np.testing.assert_array_equal(again.train.features, in_memory.train.features)
