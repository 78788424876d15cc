from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.secagg.masking import BLOCK_ELEMENTS, Keystream, apply_masks

KEYS = [bytes([number]) * 32 for number in range(5)]


def test_known_answers(vectors):
    for vector in vectors["mask"]:
        stream = np.empty(len(vector["stream"]) // 2, np.uint8)
        start_block = vector.get("start_block", 0)
        Keystream(bytes.fromhex(vector["key"]), start_block=start_block).read_into(stream)
        assert stream.tobytes().hex() == vector["stream"], vector["source"]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("length", [4, BLOCK_ELEMENTS - 1, BLOCK_ELEMENTS + 3])
def test_a_mask_is_the_keystream(dtype, length):
    masked = np.zeros(length, dtype)
    apply_masks(masked, add=KEYS[:1], subtract=[])
    stream = np.empty(length, dtype)
    reader = Keystream(KEYS[0])
    for start in range(0, length, BLOCK_ELEMENTS):
        reader.read_into(stream[start : start + BLOCK_ELEMENTS])
    assert np.array_equal(masked, stream)


@pytest.mark.parametrize("start_block", [1, 7, 2**32 - 1, 2**64 + 5])
def test_a_keystream_can_be_read_from_any_block(start_block):
    whole, part = np.empty(64, np.uint8), np.empty(32, np.uint8)
    Keystream(KEYS[1], start_block=start_block - 1).read_into(whole)
    Keystream(KEYS[1], start_block=start_block).read_into(part)
    assert np.array_equal(part, whole[16:48])


@given(
    dtype=st.sampled_from([np.uint16, np.uint32]),
    values=st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=50),
    keys=st.lists(st.binary(min_size=32, max_size=32), max_size=4),
)
def test_what_is_added_can_be_subtracted(dtype, values, keys):
    vector = np.array(values, dtype)
    masked = vector.copy()
    apply_masks(masked, add=keys, subtract=[])
    apply_masks(masked, add=[], subtract=keys[::-1])
    assert np.array_equal(masked, vector)


@given(parties=st.integers(2, 6), seed=st.integers(0, 2**32 - 1))
def test_pair_masks_cancel_in_the_sum(parties, seed):
    generator = np.random.default_rng(seed)
    vectors = generator.integers(0, 2**32, (parties, 20)).astype(np.uint32)
    keys = {(i, j): generator.bytes(32) for j in range(parties) for i in range(j)}
    total = np.zeros(20, np.uint32)
    for party, vector in enumerate(vectors):
        masked = vector.copy()
        apply_masks(
            masked,
            add=[key for (i, _), key in keys.items() if i == party],
            subtract=[key for (_, j), key in keys.items() if j == party],
        )
        assert not np.array_equal(masked, vector)
        total += masked
    assert np.array_equal(total, vectors.sum(0, dtype=np.uint32))


def test_blocks_are_filled_before_they_are_masked():
    starts = []

    def fill(start, block):
        starts.append((start, len(block)))
        block[:] = 7

    masked = np.zeros(BLOCK_ELEMENTS + 5, np.uint32)
    apply_masks(masked, add=KEYS[:2], subtract=KEYS[2:4], fill=fill)
    apply_masks(masked, add=KEYS[2:4], subtract=KEYS[:2])
    assert starts == [(0, BLOCK_ELEMENTS), (BLOCK_ELEMENTS, 5)]
    assert (masked == 7).all()


def test_masks_are_uniform():
    masked = np.zeros(200_000, np.uint32)
    apply_masks(masked, add=KEYS[:1], subtract=KEYS[1:2])
    counts = np.bincount(masked.view(np.uint8), minlength=256)
    expected = masked.nbytes / 256
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)
