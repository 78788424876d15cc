from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import ShareRefused
from privacy.secagg.shamir import PRIME, SHARE_BYTES, combine, split


def test_known_answers(vectors):
    for vector in vectors["shamir"]:
        draws = map(bytes.fromhex, vector["draws"])
        secret = bytes.fromhex(vector["secret"])
        indices = [int(index) for index in vector["shares"]]
        shares = split(
            secret, quorum=vector["quorum"], indices=indices, randomness=lambda n, d=draws: next(d)
        )
        assert {str(i): s.hex() for i, s in shares.items()} == vector["shares"]
        assert combine({i: shares[i] for i in indices[-vector["quorum"] :]}) == secret


def test_the_modulus_is_the_smallest_prime_above_every_secret():
    def passes_fermat(number: int) -> bool:
        return all(pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7, 11, 13))

    assert passes_fermat(PRIME)
    assert not any(passes_fermat(number) for number in range(2**256 + 1, PRIME, 2))


@given(data=st.data(), secret=st.binary(min_size=32, max_size=32), parties=st.integers(3, 12))
def test_any_quorum_gives_the_secret_and_fewer_do_not(data, secret, parties):
    quorum = data.draw(st.integers(2, parties))
    shares = split(secret, quorum=quorum, indices=range(1, parties + 1), randomness=os.urandom)
    chosen = data.draw(st.permutations(sorted(shares)))[:quorum]
    assert combine({index: shares[index] for index in chosen}) == secret
    try:
        assert combine({index: shares[index] for index in chosen[:-1]}) != secret
    except ShareRefused:
        pass  # the wrong secret may also lie above 2^256


def test_fewer_shares_fit_every_secret():
    """With two of three shares, each of two secrets has a third share that completes it."""
    draws = iter([b"\1" * 48, b"\2" * 48])
    shares = split(b"a" * 32, quorum=3, indices=(1, 2, 3), randomness=lambda n: next(draws))
    other = int.from_bytes(b"b" * 32, "big")
    # f(0) = 3 f(1) - 3 f(2) + f(3), so the share that leads to the other secret is known.
    first, second = (int.from_bytes(shares[index], "big") for index in (1, 2))
    third = (other - 3 * first + 3 * second) % PRIME
    shares[3] = third.to_bytes(SHARE_BYTES, "big")
    assert combine(shares) == b"b" * 32


@pytest.mark.parametrize("share", [b"", b"\0" * 32, b"\0" * 34, PRIME.to_bytes(33, "big")])
def test_a_share_outside_the_field_is_refused(share):
    with pytest.raises(ShareRefused, match="party 2 is no element"):
        combine({1: bytes(33), 2: share, 3: bytes(33)})


def test_shares_that_lead_above_all_secrets_are_refused():
    with pytest.raises(ShareRefused, match=r"parties \[1\] belong to no secret"):
        combine({1: (2**256 + 1).to_bytes(33, "big")})


def test_a_secret_of_another_length_is_refused():
    with pytest.raises(ValueError, match="32 bytes are needed, not 31"):
        split(bytes(31), quorum=2, indices=(1, 2), randomness=os.urandom)
