"""The generator: its distribution, its bounds, and that its stream is never used twice."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import PlanError, PrivacyError
from privacy.noise import SecureGenerator

MANY = 200_000


def kolmogorov_smirnov(cumulative: np.ndarray) -> float:
    """Distance of a sample, given as its ideal distribution's values, from that distribution."""
    ordered, n = np.sort(cumulative), len(cumulative)
    steps = np.arange(n + 1) / n
    return float(max(np.max(steps[1:] - ordered), np.max(ordered - steps[:-1])))


def critical(n: int) -> float:
    """Distance exceeded by one sample in ten million (Massart 1990)."""
    return math.sqrt(math.log(2 / 1e-7) / (2 * n))


class TestStream:
    def test_it_is_the_keystream_of_aes_256_in_counter_mode(self) -> None:
        """NIST SP 800-38A, §6.5: the counter's blocks, enciphered one by one, from zero."""
        key = bytes(range(32))
        block = Cipher(AES256(key), ECB()).encryptor()  # noqa: S305 (single blocks)
        blocks = b"".join(block.update(i.to_bytes(16, "big")) for i in range(3))
        assert SecureGenerator(key, is_private=True).bytes(48) == blocks

    def test_it_goes_on_where_it_stopped(self) -> None:
        whole = SecureGenerator.seeded(1).bytes(1000)
        generator = SecureGenerator.seeded(1)
        assert b"".join(generator.bytes(n) for n in (1, 0, 15, 17, 967)) == whole

    def test_two_from_the_system_differ_and_are_private(self) -> None:
        one, two = SecureGenerator.from_os(), SecureGenerator.from_os()
        assert one.bytes(32) != two.bytes(32)
        assert one.is_private
        assert two.is_private

    def test_a_seeded_one_repeats_and_is_not_private(self) -> None:
        one, two = SecureGenerator.seeded(7), SecureGenerator.seeded(7)
        assert one.bytes(64) == two.bytes(64)
        assert one.bytes(64) != SecureGenerator.seeded(8).bytes(64)
        assert not one.is_private

    def test_a_key_of_another_length_is_refused(self) -> None:
        with pytest.raises(ValueError, match="key of 16 bytes"):
            SecureGenerator(bytes(16), is_private=True)

    def test_it_is_not_copied_or_pickled(self) -> None:
        generator = SecureGenerator.from_os()
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="not copied or pickled"):
                duplicate(generator)

    def test_another_process_cannot_go_on_with_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        generator = SecureGenerator.from_os()
        monkeypatch.setattr("os.getpid", lambda: -1)
        with pytest.raises(PrivacyError, match=r"make one with from_os\(\) in the child"):
            generator.normal(3, 1.0)

    def test_it_shows_no_key(self) -> None:
        assert repr(SecureGenerator.seeded(1)) == "SecureGenerator(is_private=False)"


class TestUniform:
    def test_it_is_uniform(self) -> None:
        values = SecureGenerator.seeded(1).uniform(MANY)
        assert values.dtype == np.float64
        assert kolmogorov_smirnov(values) < critical(MANY)

    @pytest.mark.parametrize("byte", [0x00, 0xFF])
    def test_it_never_reaches_zero_or_one(self, byte: int, monkeypatch: pytest.MonkeyPatch) -> None:
        generator = SecureGenerator.seeded(1)
        monkeypatch.setattr(generator, "bytes", lambda n: bytes([byte]) * n)
        values = generator.uniform(4)
        assert np.all((values > 0) & (values < 1))
        assert np.all(np.isfinite(generator.normal(4, 1.0)))


class TestNormal:
    def test_it_is_normal(self) -> None:
        values = SecureGenerator.seeded(2).normal(MANY, 1.0)
        ideal = np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in values])
        assert kolmogorov_smirnov(ideal) < critical(MANY)

    def test_its_moments(self) -> None:
        values = SecureGenerator.seeded(3).normal(MANY, 2.5) / 2.5
        error = 5 / math.sqrt(MANY)  # five standard errors, times that of each moment
        assert abs(values.mean()) < error
        assert abs((values**2).mean() - 1) < error * math.sqrt(2)
        assert abs((values**3).mean()) < error * math.sqrt(15)
        assert abs((values**4).mean() - 3) < error * math.sqrt(96)

    def test_both_halves_of_box_and_muller_are_independent(self) -> None:
        values = SecureGenerator.seeded(4).normal(MANY, 1.0)
        half = MANY // 2
        assert abs(np.mean(values[:half] * values[half:])) < 5 / math.sqrt(half)

    @given(shape=st.lists(st.integers(0, 7), max_size=4).map(tuple))
    def test_any_shape(self, shape: tuple[int, ...]) -> None:
        values = SecureGenerator.seeded(5).normal(shape, 1.0)
        assert values.shape == shape
        assert values.dtype == np.float64

    def test_an_integer_is_one_dimension(self) -> None:
        assert SecureGenerator.seeded(5).normal(3, 1.0).shape == (3,)

    def test_no_deviation_is_zero(self) -> None:
        assert not SecureGenerator.seeded(6).normal((2, 3), 0.0).any()

    @pytest.mark.parametrize("std", [-1.0, math.nan, math.inf])
    def test_a_deviation_out_of_bounds_is_refused(self, std: float) -> None:
        with pytest.raises(PlanError, match="std"):
            SecureGenerator.seeded(1).normal(3, std)


class TestBernoulli:
    @pytest.mark.parametrize("rate", [1e-3, 0.2, 0.5, 0.999])
    def test_it_comes_up_at_its_rate(self, rate: float) -> None:
        coins = SecureGenerator.seeded(8).bernoulli(MANY, rate)
        assert coins.dtype == np.bool_
        assert abs(coins.mean() - rate) < 5 * math.sqrt(rate * (1 - rate) / MANY)

    def test_a_rate_of_one_is_always(self) -> None:
        assert SecureGenerator.seeded(9).bernoulli(MANY, 1.0).all()

    def test_the_smallest_rate_is_allowed(self) -> None:
        assert not SecureGenerator.seeded(9).bernoulli(MANY, 5e-324).any()

    def test_no_records(self) -> None:
        assert SecureGenerator.seeded(9).bernoulli(0, 0.5).shape == (0,)

    @pytest.mark.parametrize("rate", [0.0, -0.5, 1.0000001, math.nan])
    def test_a_rate_out_of_bounds_is_refused(self, rate: float) -> None:
        with pytest.raises(PlanError, match="rate"):
            SecureGenerator.seeded(1).bernoulli(3, rate)
