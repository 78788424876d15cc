"""Random numbers for noise and sampling, from AES-256 in counter mode.

PyTorch's and numpy's default generators have states that can be searched or recovered; whoever
recovers them subtracts the noise. Here the state is a 256-bit key from the operating system.

    generator = SecureGenerator.from_os()
    noise = generator.normal((64, 30), std=1.1)
    chosen = generator.bernoulli(n, rate=0.2)

A float64 is no real number. Which values noise can take depends on their size, so that the last
bits of a noisy sum tell what it was added to (Mironov 2012, "On significance of the least
significant bits for differential privacy"; Haney et al. 2022, "Precision-based attacks and interval
refining"). What training releases is therefore rounded to a public grid, far coarser than the
noise's own and fine beside its deviation:

    noisy = to_grid(total + noise, std)

Claimed is, for one value whose exact sum lies within 64 deviations of zero: each step of the grid
is hit with the probability that real Gaussian noise would give it, up to a factor of 1 ± 2^-30
within 7 deviations of the exact sum and of 1 ± 0.001 within 8.4, which an ideal Gaussian passes
once in 10^16 values. Nothing is claimed of what lies beyond; beyond 9.5 deviations nothing is hit
at all.

- The noisy sum as computed is off by less than 2^-46 deviations: an ideal one, rounded to a step
  whose two edges are moved by as much, of at least 2^-11 deviations.
- The radius of Box and Muller takes few values far out; what that does to a step's probability is
  computed in ``tests/unit/privacy/test_grid.py``.

So the last bits tell next to nothing. It is no proof of differential privacy in floating point;
that takes integers, as ``privacy.discrete`` draws them.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn, Self

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from privacy.errors import PlanError, PrivacyError

if TYPE_CHECKING:
    import torch

KEY_BYTES: Final = 32
GRID_BITS: Final = 10
"""A step of the grid is at most 2^-10 deviations and adds 10^-7 of the noise's variance."""

_LEAST_STD: Final = 1e-100
_SEED_DOMAIN: Final = b"fedmed seeded generator v1\0"


class SecureGenerator:
    """A stream of random values under a key that is never shown.

    Make one with ``from_os``, in the process that uses it: a generator refuses to go on in a forked
    child, where it would repeat its parent's noise, and cannot be copied or pickled for the same
    reason. Not for use from two threads at once.

    Attributes:
        is_private: whether the key came from the operating system; False for a seeded generator,
            whose noise protects nobody.
    """

    def __init__(self, key: bytes, *, is_private: bool) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"key of {len(key)} bytes: AES-256 takes {KEY_BYTES}")
        self.is_private = is_private
        # A key is used once, so the counter may start at zero.
        self._stream = Cipher(AES256(key), CTR(bytes(16))).encryptor()
        self._process = os.getpid()

    @classmethod
    def from_os(cls) -> Self:
        """Returns a generator under a fresh key from the operating system."""
        return cls(os.urandom(KEY_BYTES), is_private=True)

    @classmethod
    def seeded(cls, seed: int) -> Self:
        """Returns a repeatable generator for tests and simulations; it is not private.

        Args:
            seed: any integer; equal seeds give equal streams.
        """
        key = hashlib.sha256(_SEED_DOMAIN + str(seed).encode()).digest()
        return cls(key, is_private=False)

    def bytes(self, n: int) -> bytes:
        """Returns the next n bytes of the keystream.

        Raises:
            PrivacyError: this is a forked child of the process that made the generator.
        """
        if os.getpid() != self._process:
            raise PrivacyError(
                f"generator of process {self._process} used in process {os.getpid()}: a forked "
                "child would repeat its parent's noise; make one with from_os() in the child"
            )
        return self._stream.update(bytes(n))

    def uniform(self, n: int) -> NDArray[np.float64]:
        """Returns n uniform values strictly between 0 and 1: float64, shape (n,).

        The values are the middles of 2^52 equal cells. With one bit more, the last middle would
        round to 1.
        """
        words = np.frombuffer(self.bytes(8 * n), dtype="<u8")
        return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def normal(self, shape: int | Sequence[int], std: float) -> NDArray[np.float64]:
        """Returns independent Gaussian values of mean 0: float64, of the shape given.

        Box and Muller (1958), in float64: no value is discarded, so the number of bytes drawn tells
        nothing. The radius comes from 63 bits; the smallest, 2^-64, bounds the values at 9.42
        standard deviations, beyond which an ideal Gaussian has a mass of 5e-21.

        Args:
            shape: the shape; an integer for one dimension.
            std: standard deviation, finite, from 0; 0 gives zeros.

        Raises:
            PlanError: the standard deviation is out of its bounds.
        """
        # Imported here: the coordinator reads this module and does without PyTorch.
        import torch

        if not 0 <= std < np.inf:
            raise PlanError(f"std {std}: must be a finite number from 0")
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        count = int(np.prod(sizes, dtype=np.int64))
        half = (count + 1) // 2
        words = np.frombuffer(self.bytes(16 * half), "<u8")
        # Signed integers are turned into floats in half the time of unsigned ones.
        radius = (words[:half] >> np.uint64(1)).view("<i8").astype(np.float64)
        radius += 0.5
        radius *= 2.0**-63
        np.log(radius, out=radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        radius *= std
        # PyTorch's sine and cosine of float64 take a third of the time of numpy's.
        angle = torch.from_numpy(words[half:].view("<i8").astype(np.float64))
        angle.mul_(2.0 * np.pi * 2.0**-64)
        values = np.empty(2 * half)
        torch.cos(angle, out=torch.from_numpy(values[:half]))
        torch.sin(angle, out=torch.from_numpy(values[half:]))
        values[:half] *= radius
        values[half:] *= radius
        return values[:count].reshape(sizes)

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        """Returns n independent coins: bool, shape (n,), each true with probability ``rate``.

        The probability is exact to 2^-52; a rate of 1 is always true.

        Raises:
            PlanError: the rate is not in (0, 1].
        """
        if not 0 < rate <= 1:
            raise PlanError(f"rate {rate}: must lie in (0, 1]")
        return self.uniform(n) < rate

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecureGenerator is not copied or pickled: its noise would repeat")

    def __repr__(self) -> str:
        return f"SecureGenerator(is_private={self.is_private})"


def grid_of(std: float) -> float:
    """Returns the step of the grid for noise of a standard deviation: a power of two.

    It depends on the public deviation alone: above ``std / 2048``, at most ``std / 1024``.

    Raises:
        PlanError: the standard deviation is not finite, or below 1e-100.

    >>> grid_of(1.0), grid_of(1.9), grid_of(2.0)
    (0.0009765625, 0.0009765625, 0.001953125)
    """
    if not _LEAST_STD <= std < np.inf:
        raise PlanError(f"std {std}: a grid needs a finite number from {_LEAST_STD:g}")
    return math.ldexp(0.5, math.frexp(std)[1] - GRID_BITS)


def to_grid(noisy: torch.Tensor, std: float) -> torch.Tensor:
    """Rounds noisy values to the grid of their noise, in place: float64, any shape.

    Afterwards each is a multiple of the grid's step; a value within 2^24 steps of zero is one in
    float32 as well. Rounding to float32 beyond that looks at the rounded value alone.

    Raises:
        PlanError: see ``grid_of``.
    """
    step = grid_of(std)
    # A product with a power of two is exact.
    return noisy.mul_(1.0 / step).round_().mul_(step)
