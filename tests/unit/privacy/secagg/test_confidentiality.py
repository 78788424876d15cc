"""What the coordinator can learn: an attacker that holds all that reached it in a round."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.secagg import Enrolment, Reveal, Upload
from privacy.secagg.context import pair_mask_keys, round_context, self_mask_key
from privacy.secagg.masking import apply_masks
from privacy.secagg.shamir import combine

MODEL_HASH = bytes(range(32))
DIMENSION = 50_000


def bytes_in(value: Any) -> Iterator[bytes]:
    """All byte strings and arrays within captured messages."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, np.ndarray):
        yield value.tobytes()
    elif dataclasses.is_dataclass(value):
        for entry in dataclasses.fields(value):
            yield from bytes_in(getattr(value, entry.name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from bytes_in(item)


def looks_uniform(elements: Any) -> bool:
    """Chi-square test of the bytes of an array, at about five standard deviations."""
    counts = np.bincount(elements.view(np.uint8), minlength=256)
    expected = elements.nbytes / 256
    statistic = ((counts - expected) ** 2 / expected).sum()
    return bool(abs(statistic - 255) < 5 * np.sqrt(2 * 255))


@pytest.fixture
def attack(make_session):
    """A finished round on whole steps, so that the plain quantised vectors are known."""
    session = make_session(3, dimension=DIMENSION, counters=0, bits=12, clip=2047.0, seed=3)
    vectors = np.random.default_rng(0).integers(-9, 10, (3, DIMENSION)).astype(np.float32)
    result = session.run(vectors, [1, 1, 1], [[], [], []])
    enrolments = {m.index: m for m in session.captured if isinstance(m, Enrolment)}
    uploads = {m.index: m for m in session.captured if isinstance(m, Upload)}
    reveals = {m.index: m for m in session.captured if isinstance(m, Reveal)}
    assert len(enrolments) == len(uploads) == len(reveals) == 3
    context = round_context(
        parameters=session.parameters,
        round_number=1,
        model_hash=MODEL_HASH,
        public_keys={index: enrolment.public_key for index, enrolment in enrolments.items()},
        roster=session.roster,
    )
    remainders = {}
    for dealer, upload in uploads.items():
        seed = combine({index: reveal.shares[dealer] for index, reveal in reveals.items()})
        remainder = upload.masked.copy()
        apply_masks(remainder, add=[], subtract=[self_mask_key(seed, context)])
        remainders[dealer] = remainder
    dtype = session.parameters.dtype
    plain = {i: vectors[i - 1].astype(np.int32).astype(dtype) for i in uploads}
    return session, uploads, remainders, plain, result


def test_the_remainders_add_up_so_the_attack_is_the_strongest(attack):
    _, _, remainders, plain, result = attack
    total = remainders[1] + remainders[2] + remainders[3]
    assert np.array_equal(total[:DIMENSION], plain[1] + plain[2] + plain[3])
    assert result.weight == 3


@pytest.mark.parametrize("dealer", [1, 2, 3])
def test_without_its_self_mask_an_upload_is_still_noise(attack, dealer):
    _, uploads, remainders, plain, _ = attack
    assert not looks_uniform(plain[dealer])
    for elements in (uploads[dealer].masked, remainders[dealer]):
        assert looks_uniform(elements)
        modulus = 2 ** (8 * elements.itemsize)
        agreeing = int((elements[:DIMENSION] == plain[dealer]).sum())
        assert agreeing <= 10 + 10 * DIMENSION / modulus
        correlation = np.corrcoef(elements[:DIMENSION], plain[dealer].view(np.int16))[0, 1]
        assert abs(correlation) < 5 / np.sqrt(DIMENSION)


@pytest.mark.parametrize("pair", [(1, 2), (1, 3), (2, 3)])
def test_a_sum_of_two_is_still_noise(attack, pair):
    _, _, remainders, plain, _ = attack
    partial = remainders[pair[0]] + remainders[pair[1]]
    assert looks_uniform(partial)
    assert not np.array_equal(partial[:DIMENSION], plain[pair[0]] + plain[pair[1]])


@pytest.fixture
def loss(make_session):
    """A round of five whose fifth upload came too late; the coordinator keeps it, and all else."""
    session = make_session(5, quorum=4, dimension=DIMENSION, counters=0, bits=12, clip=2047.0)
    vectors = np.random.default_rng(0).integers(-9, 10, (5, DIMENSION)).astype(np.float32)
    views = session.begin()
    enrolled = {index: view.public_keys[index] for index, view in views.items()}
    uploads = {i: session.upload(i, view, vector=vectors[i - 1]) for i, view in views.items()}
    for index in (1, 2, 3, 4):
        session.coordinator.add(uploads[index])
    survivors = session.coordinator.close()
    context = session.coordinator._round.context
    certificate = session.certificate(survivors)
    reveals = [session.hospitals[i].reveal(1, v, certificate) for i, v in survivors.items()]
    seeds = {i: combine({r.index: r.shares[i] for r in reveals}) for i in (1, 2, 3, 4)}
    assert all(set(reveal.shares) == {1, 2, 3, 4} for reveal in reveals)
    private_key = X25519PrivateKey.from_private_bytes(
        combine({reveal.index: reveal.key_shares[5] for reveal in reveals})
    )
    add, subtract = pair_mask_keys(private_key, enrolled, context, index=5)
    remainders = {}
    for index, upload in uploads.items():
        remainder = upload.masked.copy()
        if index == 5:
            apply_masks(remainder, add=subtract, subtract=add)
        else:
            # The mask that this survivor shares with party 5, which party 5 would subtract.
            pair = {index: enrolled[index]}
            _, (shared,) = pair_mask_keys(private_key, pair, context, index=5)
            seed = self_mask_key(seeds[index], context)
            apply_masks(remainder, add=[], subtract=[shared, seed])
        remainders[index] = remainder
    dtype = session.parameters.dtype
    plain = {i: vectors[i - 1].astype(np.int32).astype(dtype) for i in uploads}
    return remainders, plain


def test_after_a_loss_the_remainders_of_the_survivors_add_up_so_the_attack_is_the_strongest(loss):
    remainders, plain = loss
    total = sum(remainders[index] for index in (1, 2, 3, 4))
    assert np.array_equal(total[:DIMENSION], sum(plain[index] for index in (1, 2, 3, 4)))


@pytest.mark.parametrize("dealer", [1, 2, 3, 4, 5])
def test_after_a_loss_each_upload_is_still_noise_the_late_one_too(loss, dealer):
    remainders, plain = loss
    assert looks_uniform(remainders[dealer])
    assert not looks_uniform(plain[dealer])
    correlation = np.corrcoef(remainders[dealer][:DIMENSION], plain[dealer].view(np.int16))[0, 1]
    assert abs(correlation) < 5 / np.sqrt(DIMENSION)


@pytest.mark.parametrize("parties", [(1, 2), (2, 3, 4), (1, 5), (1, 2, 3, 4, 5)])
def test_after_a_loss_no_other_sum_is_anything_but_noise(loss, parties):
    """All five together too: what the fifth uploaded stays behind its self mask."""
    remainders, plain = loss
    partial = sum(remainders[index] for index in parties)
    assert looks_uniform(partial)
    expected = sum(plain[index] for index in parties)
    assert (partial[:DIMENSION] == expected).sum() < DIMENSION // 100


def test_no_captured_byte_string_holds_a_plain_vector(attack):
    session, _, _, plain, _ = attack
    captured = [data for message in session.captured for data in bytes_in(message)]
    assert len(captured) > 3 * 10
    for elements in plain.values():
        for spelling in (
            elements,
            elements.view(np.int16).astype(np.int32),
            elements.view(np.int16).astype(np.float32),
        ):
            piece = spelling[:16].tobytes()
            assert not any(piece in data for data in captured)


def test_nothing_that_reaches_the_coordinator_opens_a_private_key(make_session):
    session = make_session(3)
    views = session.begin()
    private_keys = {
        hospital._rounds.enrolled(1).private_key.private_bytes_raw()
        for hospital in session.hospitals.values()
    }
    uploads = session.uploads(views)
    for upload in uploads.values():
        session.coordinator.add(upload)
    survivors = session.coordinator.close()
    reveals = [session.hospitals[index].reveal(1, view) for index, view in survivors.items()]
    messages = [*session.captured, *uploads.values(), *reveals]
    captured = b"|".join(data for message in messages for data in bytes_in(message))
    for identity in session.identities.values():
        private_keys |= {identity.private_bytes()[:32], identity.private_bytes()[32:]}
    assert len(private_keys) == 9
    assert not any(key in captured for key in private_keys)
    for dealer in uploads:
        rebuilt = combine({reveal.index: reveal.shares[dealer] for reveal in reveals})
        assert rebuilt not in private_keys


def test_the_coordinator_keeps_no_vector(make_session):
    session = make_session(3, dimension=100)
    views = session.begin()
    uploads = {
        index: session.upload(index, view, vector=np.full(100, 0.5, np.float32))
        for index, view in views.items()
    }
    for upload in uploads.values():
        session.coordinator.add(upload)
        kept = [
            getattr(session.coordinator._round, entry.name)
            for entry in dataclasses.fields(session.coordinator._round)
        ]
        arrays = [value for value in kept if isinstance(value, np.ndarray)]
        assert len(arrays) == 1
        assert not np.shares_memory(arrays[0], upload.masked)
    assert np.array_equal(arrays[0], sum(upload.masked for upload in uploads.values()))
    for receipt in session.coordinator._round.receipts.values():
        assert max(len(data) for data in bytes_in(receipt)) <= 64


def test_the_same_update_never_looks_the_same(make_session):
    session = make_session(3, dimension=1000)
    first = session.upload(1, session.begin(1)[1])
    second = session.upload(1, session.begin(2)[1], round_number=2)
    assert (first.masked == second.masked).sum() < 5
