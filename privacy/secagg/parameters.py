"""What the parties of a secure sum agree on beforehand, and the rules it must keep.

Each party builds its own value from what it knows and has approved; the coordinator cannot relax
it, because every mask depends on a hash of it.

    SumParameters(session=training_id.bytes, roster=(1, 2, 3), quorum=3, dimension=4_097)
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from privacy.errors import ParametersRefused
from privacy.secagg.encoding import digest, index_bytes

MOST_PARTIES = 256  # base-256 digits of so many parties still sum below 2^16
LEAST_QUORUM = 3  # a sum of two shows each of them the other
DIGITS = 4  # of a weight or count
COUNT_VALUES = 2**32  # which so many digits of 8 bits can tell apart
SESSION_BYTES = 16
_MOST_ELEMENTS = 1 << 30
_MODULUS = 2**32
_NOISE_DEVIATIONS = 10


def least_quorum(parties: int, colluding: int = 0) -> int:
    """Returns the smallest quorum that the rules allow for so many parties.

    >>> [least_quorum(parties) for parties in (3, 4, 5, 10, 30)]
    [3, 3, 3, 6, 16]
    """
    return max(LEAST_QUORUM, colluding + 2, (parties + colluding) // 2 + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SumParameters:
    """The public constants of a secure sum.

    The rules, checked when the value is built:

    - ``2 * quorum > parties + colluding``: two different sets of survivors cannot both find a
      quorum of honest parties (Bonawitz et al. 2017, section 6.2);
    - ``quorum >= 3`` and ``quorum >= colluding + 2``: every sum hides a party among at least one
      other that does not collude;
    - a sum over all parties fits the modulus, noise of ten deviations included.

    Attributes:
        session: 16 bytes that name the session, such as a training's UUID.
        roster: the indices of all registered parties: 1 to n without gaps.
        quorum: shares that rebuild a secret, and the fewest parties of a cohort.
        colluding: parties that may work together with the coordinator.
        dimension: elements of the vector; 0 when only counts are summed.
        counters: how many counts ride along.
        bits: bits of a quantised element, its sign included.
        clip: elements of a vector are clipped to [-clip, clip].
        max_weight: the largest weight of one party.
        noise_std: deviation of the integers that each party adds to its quantised vector, in steps;
            0 when there is none.
        least_count: the least value of a count, at most 0; every party adds it to make digits of
            noised counts, and the reader takes it out of the sum.

    Raises:
        ParametersRefused: a rule is broken; the message names the value.
    """

    session: bytes
    roster: tuple[int, ...]
    quorum: int
    dimension: int
    colluding: int = 0
    counters: int = 0
    bits: int = 20
    clip: float = 1.0
    max_weight: int = 1
    noise_std: float = 0.0
    least_count: int = 0

    def __post_init__(self) -> None:
        if type(self.session) is not bytes or len(self.session) != SESSION_BYTES:
            raise ParametersRefused(
                f"session: {SESSION_BYTES} bytes are needed, such as a UUID's, not {self.session!r}"
            )
        parties = len(self.roster)
        if self.roster != tuple(range(1, parties + 1)):
            raise ParametersRefused(f"roster: indices must run from 1 to n, not {self.roster}")
        for name, value, least, most in (
            ("roster", parties, LEAST_QUORUM, MOST_PARTIES),
            ("quorum", self.quorum, LEAST_QUORUM, parties),
            ("colluding", self.colluding, 0, parties),
            ("dimension", self.dimension, 0, _MOST_ELEMENTS),
            ("counters", self.counters, 0, _MOST_ELEMENTS // DIGITS),
            ("bits", self.bits, 4, 24),
            ("max_weight", self.max_weight, 1, 2**32 - 1),
            ("least_count", self.least_count, 1 - COUNT_VALUES, 0),
        ):
            if type(value) is not int or not least <= value <= most:
                raise ParametersRefused(f"{name}: {value!r} must lie in {least} to {most}")
        if self.quorum < least_quorum(parties, self.colluding):
            raise ParametersRefused(
                f"quorum: {self.quorum} is too low for {parties} parties of which "
                f"{self.colluding} may collude; take {least_quorum(parties, self.colluding)}"
            )
        if not (math.isfinite(self.clip) and 1e-6 <= self.clip <= 1e9):
            raise ParametersRefused(f"clip: {self.clip!r} must lie in 1e-6 to 1e9")
        if not 0 <= self.noise_std < _MODULUS:
            raise ParametersRefused(f"noise_std: {self.noise_std!r} must lie in 0 to 2^32")
        if self.reach(parties) >= _MODULUS // 2:
            raise ParametersRefused(
                f"noise_std: {parties} vectors of {self.bits} bits, each with noise of "
                f"{self.noise_std:g} steps, reach {self.reach(parties)}, beyond 2^31; take "
                "a larger clip or less noise"
            )

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The modulus as a type: uint16 when the sum fits 16 bits, else uint32."""
        return np.dtype("<u2" if self.reach(len(self.roster)) < 2**15 else "<u4")

    @property
    def length(self) -> int:
        """Elements of a masked vector: the vector, then the digits of the weight and the counts."""
        return self.dimension + DIGITS * (1 + self.counters)

    @property
    def largest(self) -> int:
        """The largest quantised element; ``clip`` is mapped to it."""
        return int(2 ** (self.bits - 1) - 1)

    @property
    def step(self) -> float:
        """One quantisation step of a vector that enters with ``max_weight``."""
        return self.clip / self.largest

    def reach(self, parties: int) -> int:
        """The largest element of a sum over so many parties, noise of ten deviations included.

        More noise than that comes up once in 10^22 elements.
        """
        noise = _NOISE_DEVIATIONS * math.sqrt(parties) * self.noise_std
        return parties * self.largest + math.ceil(noise)

    def check_least_cohort(self, least_cohort: int) -> None:
        """Raises ParametersRefused when so small a sum would hide nothing, or none is as large."""
        if type(least_cohort) is not int or not LEAST_QUORUM <= least_cohort <= len(self.roster):
            raise ParametersRefused(
                f"least_cohort: {least_cohort!r} must lie in {LEAST_QUORUM} to {len(self.roster)}"
            )

    def encode(self) -> bytes:
        """Returns 32 bytes that differ whenever any of the values differs."""
        return digest(
            b"secure sum parameters",
            self.session,
            index_bytes(self.roster),
            struct.pack(
                "<6Q2dq",
                self.quorum,
                self.colluding,
                self.dimension,
                self.counters,
                self.bits,
                self.max_weight,
                self.clip,
                self.noise_std,
                self.least_count,
            ),
        )
