"""Real vectors, weights and counts as integers that add up modulo 2^16 or 2^32, and back.

    quantiser = Quantiser(vector, weight=1, counts=counts, parameters=parameters, rounding_key=key)
    quantiser.fill(0, elements)                        # what is masked, block by block
    read_sum(total, parameters=parameters, parties=3)  # what the unmasked sum says

An element x enters as round(x * weight / (max_weight * step)). Rounding is stochastic: up or down
with the probability that makes its mean exact, by random bits of a keystream, so that errors of
many parties and rounds do not add up (Connolly, Higham and Mary, SIAM J. Sci. Comput. 43 (1),
2021). Noise, if the parties agreed on it, is added to the integers, after the clip. The weight and
the counts follow as four base-256 digits each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from privacy.errors import InputRefused, ProtocolError
from privacy.secagg.masking import BLOCK_ELEMENTS, Keystream, MaskedVector
from privacy.secagg.parameters import COUNT_VALUES, DIGITS, SumParameters
from privacy.secagg.recovery import ShareFault

_BASE = 256
# More bits of an element would see the rounding of float32; it is twice as fast as float64.
_FLOAT32_BITS = 20


@dataclass(frozen=True, slots=True, eq=False)
class SumResult:
    """What a secure sum gives.

    Attributes:
        mean: float32 (dimension,): the weighted mean of the vectors; zero if the weight is zero.
        weight: the sum of the weights.
        counts: int64 (counters,): the sums of the counts.
        parties: the indices of the parties that are in the sum, ascending.
        faults: revealed shares that could not be used; the sum is right without them.
    """

    mean: NDArray[np.float32]
    weight: int
    counts: NDArray[np.int64]
    parties: tuple[int, ...]
    faults: tuple[ShareFault, ...] = ()


class Quantiser:
    """Writes a party's input as integers, any block of it in order.

    The quantised element differs from the exact one by less than one; up to 20 bits, where the
    arithmetic is that of the input, float32, by less than one and 2^-23 of the element.

    Args:
        vector: float32 (dimension,), finite; elements beyond the clip are clipped.
        weight: 0 to max_weight.
        counts: int64 (counters,), each from ``least_count`` on, 2^32 values.
        parameters: clip, bits and shapes.
        rounding_key: 32 random bytes, used once.
        noise: int64 (dimension,), of the deviation agreed on; None if none was.

    Raises:
        InputRefused: a shape, type or value is wrong; the message does not show private values.
    """

    def __init__(
        self,
        vector: NDArray[np.float32],
        *,
        weight: int,
        counts: ArrayLike,
        parameters: SumParameters,
        rounding_key: bytes,
        noise: NDArray[np.int64] | None = None,
    ) -> None:
        self._vector = _checked_vector(vector, parameters)
        self._noise = _checked_noise(noise, parameters)
        self._dtype = parameters.dtype
        self._tail = _digits([_checked_weight(weight, parameters)], counts, parameters)
        # Fixed point with as many fraction bits as an int32 leaves: floor(t + r) is (T + R) >> s.
        self._fraction_bits = min(15, 31 - parameters.bits)
        share = weight / parameters.max_weight * 2.0**self._fraction_bits
        real: type[np.floating] = np.float32 if parameters.bits <= _FLOAT32_BITS else np.float64
        self._scale = real(share / parameters.step)
        self._limit = real(share * parameters.largest)
        self._stream = Keystream(rounding_key)
        self._scaled = np.empty(BLOCK_ELEMENTS, real)
        self._fixed = np.empty(BLOCK_ELEMENTS, np.int32)
        self._random = np.empty(BLOCK_ELEMENTS, np.uint16)

    def fill(self, start: int, elements: MaskedVector) -> None:
        """Writes the elements from ``start`` on; at most one block, and each block once."""
        dimension = len(self._vector)
        real = max(0, min(len(elements), dimension - start))
        scaled, fixed, random = self._scaled[:real], self._fixed[:real], self._random[:real]
        self._stream.read_into(random)
        np.right_shift(random, 16 - self._fraction_bits, out=random)
        with np.errstate(over="ignore"):  # what overflows to infinity is clipped
            np.multiply(self._vector[start : start + real], self._scale, out=scaled)
        np.clip(scaled, -self._limit, self._limit, out=scaled)
        np.rint(scaled, out=scaled)
        np.copyto(fixed, scaled, casting="unsafe")
        np.add(fixed, random, out=fixed)
        np.right_shift(fixed, self._fraction_bits, out=fixed)
        if self._noise is not None:
            fixed += self._noise[start : start + real].astype(np.int32)
        # The cast wraps: two's complement modulo the vector's type.
        np.copyto(elements[:real], fixed, casting="unsafe")
        tail = start + real - dimension
        elements[real:] = self._tail[tail : tail + len(elements) - real]


def read_sum(
    total: MaskedVector,
    *,
    parameters: SumParameters,
    parties: tuple[int, ...],
    faults: tuple[ShareFault, ...] = (),
) -> SumResult:
    """Returns what an unmasked sum over the parties says.

    Args:
        total: (parameters.length,) of parameters.dtype.
        parameters: as the parties used them.
        parties: the indices of the parties in the sum.
        faults: what could not be used on the way to it.

    Raises:
        ProtocolError: the sum lies outside what the parties can have sent: masks did not cancel.
    """
    dimension = parameters.dimension
    digits = total[dimension:].astype(np.int64).reshape(1 + parameters.counters, DIGITS)
    quantised = total[:dimension].view(np.dtype(f"<i{parameters.dtype.itemsize}"))
    weight, *_ = sums = digits @ (_BASE ** np.arange(DIGITS, dtype=np.int64))
    most = parameters.reach(len(parties))
    if (
        digits.max() > len(parties) * (_BASE - 1)
        or weight > len(parties) * parameters.max_weight
        or (dimension and max(int(quantised.max()), -int(quantised.min())) > most)
    ):
        raise ProtocolError(
            f"the sum over parties {list(parties)} lies outside what they can have sent: masks did "
            f"not cancel, or a party broke the rules; run the round again"
        )
    factor = parameters.step * parameters.max_weight / max(int(weight), 1)
    return SumResult(
        mean=_scaled(quantised, factor),
        weight=int(weight),
        counts=sums[1:] + len(parties) * parameters.least_count,
        parties=parties,
        faults=faults,
    )


def _scaled(quantised: NDArray[np.signedinteger[Any]], factor: float) -> NDArray[np.float32]:
    """Returns the products rounded once; block by block, so that no float64 vector is made."""
    products = np.empty(len(quantised), np.float32)
    for start in range(0, len(quantised), BLOCK_ELEMENTS):
        block = slice(start, start + BLOCK_ELEMENTS)
        products[block] = np.multiply(quantised[block], factor, dtype=np.float64)
    return products


def _checked_vector(vector: NDArray[np.float32], parameters: SumParameters) -> NDArray[np.float32]:
    """Refuses another type or shape, and values that are not finite."""
    if getattr(vector, "dtype", None) != np.float32:
        kind = getattr(vector, "dtype", type(vector).__name__)
        raise InputRefused(f"vector: an array of float32 is needed, not {kind}")
    if vector.shape != (parameters.dimension,):
        raise InputRefused(
            f"vector: shape {vector.shape} does not fit the agreed ({parameters.dimension},)"
        )
    if not np.isfinite(vector).all():
        raise InputRefused("vector: it holds NaN or infinity; the training diverged")
    return vector


def _checked_noise(
    noise: NDArray[np.int64] | None, parameters: SumParameters
) -> NDArray[np.int64] | None:
    """Refuses noise that was not agreed on, its absence where it was, and another type or shape."""
    if noise is None:
        if parameters.noise_std:
            raise InputRefused(
                f"noise: the parties agreed on a deviation of {parameters.noise_std:g} steps"
            )
        return None
    if not parameters.noise_std:
        raise InputRefused("noise: the parties agreed on none")
    if noise.dtype != np.int64 or noise.shape != (parameters.dimension,):
        raise InputRefused(
            f"noise: int64 of shape ({parameters.dimension},) is needed, not {noise.dtype} of "
            f"shape {noise.shape}"
        )
    return noise


def _checked_weight(weight: int, parameters: SumParameters) -> int:
    """Refuses a weight that is no integer of 0 to max_weight."""
    if type(weight) is not int:
        raise InputRefused(f"weight: an int is needed, not {type(weight).__name__}")
    if not 0 <= weight <= parameters.max_weight:
        raise InputRefused(f"weight: it must lie in 0 to {parameters.max_weight}")
    return weight


def _digits(head: list[int], counts: ArrayLike, parameters: SumParameters) -> MaskedVector:
    """Returns the base-256 digits of the weight and the counts, least first, in the sum's type."""
    numbers = np.asarray(counts)
    if numbers.shape != (parameters.counters,):
        raise InputRefused(
            f"counts: shape {numbers.shape} does not fit the agreed ({parameters.counters},)"
        )
    if numbers.size and numbers.dtype.kind not in "iu":
        raise InputRefused(f"counts: integers are needed, not {numbers.dtype}")
    least, most = parameters.least_count, parameters.least_count + COUNT_VALUES - 1
    if numbers.size and not least <= int(numbers.min()) <= int(numbers.max()) <= most:
        raise InputRefused(f"counts: each must lie in {least} to {most}")
    from_least = (numbers.astype(np.int64) - least).astype("<u4")
    whole = np.concatenate([np.array(head, "<u4"), from_least])
    return whole.view(np.uint8).astype(parameters.dtype)
