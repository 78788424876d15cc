"""An attacker who knows each hospital's update and looks for it in what reached the coordinator.

Updates lie on whole steps of the quantiser, so that what an unmasked upload would hold is known to
the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from fl.secure_round import UPDATE_RANGE

DIMENSION: Final = 20_000
STEP: Final = UPDATE_RANGE / (2**19 - 1)
# Eight standard deviations of the correlation of independent vectors.
_NOISE: Final = 8 / np.sqrt(DIMENSION)
_SPELLINGS: Final = ("<i4", "<u4", "<i2", "<i8", ">i4", "<f4", "<f8")

Vector = NDArray[Any]


@dataclass(frozen=True)
class Attacker:
    """Knows all updates, quantised (``secrets``) and as weights."""

    secrets: Mapping[str, Vector]
    step: float = STEP

    def finds(self, data: bytes, secret: Vector) -> bool:
        """Whether a quantised update, or a trace of it, lies in the data."""
        return self.reads(data, secret) or self.likeness(data, secret) > _NOISE

    def reads(self, data: bytes, secret: Vector) -> bool:
        """Whether a piece of an update is spelled out in the data."""
        return any(piece in data for piece in self.spelled(secret))

    def spelled(self, secret: Vector) -> Iterator[bytes]:
        """Pieces of an update, in all spellings in which a careless program might hold it."""
        for start in range(0, len(secret) - 16, 400):
            piece = secret[start : start + 16]
            for dtype in _SPELLINGS:
                yield piece.astype(dtype).tobytes()
            for dtype in ("<f4", "<f8"):
                yield (piece * self.step).astype(dtype).tobytes()

    def likeness(self, data: bytes, secret: Vector) -> float:
        """The largest correlation of an update with any window of the data, however it is read."""
        found = 0.0
        for offset in range(4):
            for dtype in ("<i4", "<f4"):
                words = np.frombuffer(data, dtype, (len(data) - offset) // 4, offset)
                if dtype == "<f4":
                    words = np.nan_to_num(words).clip(-UPDATE_RANGE, UPDATE_RANGE)
                found = max(found, _largest_correlation(words.astype(np.float64), secret))
        return found

    def looks_uniform(self, elements: Vector) -> bool:
        """Chi-square of the low and of the high 12 bits, within five standard deviations."""
        return all(
            abs(_chi_square(bits) - 4095) < 5 * np.sqrt(2 * 4095)
            for bits in (elements & 0xFFF, elements >> 20)
        )


def _largest_correlation(values: Vector, secret: Vector) -> float:
    windows = len(values) - len(secret) + 1
    if windows < 1:
        return 0.0
    pattern = (secret - secret.mean()) / (secret.std() * len(secret))
    size = 1 << (len(values) + len(secret)).bit_length()
    products = np.fft.irfft(np.fft.rfft(values, size) * np.conj(np.fft.rfft(pattern, size)), size)
    sums = np.zeros((2, len(values) + 1))
    np.cumsum([values, values**2], axis=1, out=sums[:, 1:])
    mean, square = (sums[:, len(secret) :] - sums[:, :windows]) / len(secret)
    deviations = np.sqrt(np.maximum(square - mean**2, 1e-12))
    return float(np.abs(products[:windows] / deviations).max())


def _chi_square(values: Vector) -> float:
    expected = len(values) / 4096
    counts = np.bincount(values.astype(np.int64), minlength=4096)
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.fixture
def attacker() -> Attacker:
    # Small enough for float32 to hold their multiples of the step, so that rounding changes none.
    return Attacker(
        {
            name: np.random.default_rng(seed).integers(-3000, 3001, DIMENSION).astype("<i4")
            for seed, name in enumerate(("east", "north", "west"))
        }
    )


@pytest.fixture
def consortium(make_consortium: Callable[..., Any], attacker: Attacker) -> Any:
    """Three hospitals with the updates that the attacker looks for."""
    made = make_consortium(dimension=DIMENSION)
    for name, hospital in made.hospitals.items():
        hospital.update = (attacker.secrets[name] * STEP).astype(np.float32)
    return made
