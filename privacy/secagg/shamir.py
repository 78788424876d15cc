"""Shamir's secret sharing of 32-byte secrets.

    shares = split(secret, quorum=3, indices=(1, 2, 3, 4), randomness=os.urandom)
    combine({index: shares[index] for index in (1, 2, 4)}) == secret

The field is the integers modulo 2^256 + 297, the smallest prime above 2^256, so that any 32 bytes
are an element. Fewer than ``quorum`` shares say nothing about the secret.

Source: Shamir, How to share a secret, CACM 22 (11), 1979.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from privacy.errors import ShareRefused
from privacy.secagg.encoding import Randomness

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33
_DRAW_BYTES = 48  # so that the remainder modulo PRIME is within 2^-127 of uniform


def split(
    secret: bytes, *, quorum: int, indices: Iterable[int], randomness: Randomness
) -> dict[int, bytes]:
    """Returns one share of 33 bytes for each index, of which any ``quorum`` give the secret.

    Raises:
        ValueError: the secret is not 32 bytes long.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"secret: {SECRET_BYTES} bytes are needed, not {len(secret)}")
    polynomial = [int.from_bytes(randomness(_DRAW_BYTES), "big") % PRIME for _ in range(quorum - 1)]
    polynomial.append(int.from_bytes(secret, "big"))
    return {index: _evaluate(polynomial, index).to_bytes(SHARE_BYTES, "big") for index in indices}


def combine(shares: Mapping[int, bytes], weights: Mapping[int, int] | None = None) -> bytes:
    """Returns the secret of 32 bytes from a quorum of shares, by their index.

    Shares that were changed give another secret or none: compare the result with a commitment.

    Args:
        shares: exactly a quorum of them, or more that are all right.
        weights: ``weights_at_zero`` of the same indices, if the caller has them.

    Raises:
        ShareRefused: a share is no field element, or together they give no 32-byte secret.
    """
    elements = {index: _element(index, share) for index, share in shares.items()}
    if weights is None:
        weights = weights_at_zero(elements)
    secret = sum(weights[index] * element for index, element in elements.items()) % PRIME
    if secret >= 2 ** (8 * SECRET_BYTES):
        raise ShareRefused(f"the shares of parties {sorted(shares)} belong to no secret")
    return secret.to_bytes(SECRET_BYTES, "big")


def weights_at_zero(indices: Iterable[int]) -> dict[int, int]:
    """Returns Lagrange's weights of f(index) in f(0); they are the same for every secret."""
    points = tuple(indices)
    weights = {}
    for point in points:
        numerator = denominator = 1
        for other in points:
            if other != point:
                numerator = numerator * other % PRIME
                denominator = denominator * (other - point) % PRIME
        weights[point] = numerator * pow(denominator, -1, PRIME) % PRIME
    return weights


def is_share(share: bytes) -> bool:
    """Whether the bytes are an element of the field, as every share is."""
    return len(share) == SHARE_BYTES and int.from_bytes(share, "big") < PRIME


def _evaluate(polynomial: Iterable[int], at: int) -> int:
    """Horner's rule; the coefficients run from the highest degree to the constant."""
    value = 0
    for coefficient in polynomial:
        value = (value * at + coefficient) % PRIME
    return value


def _element(index: int, share: bytes) -> int:
    """Reads a share."""
    if not is_share(share):
        raise ShareRefused(f"the share of party {index} is no element of the field")
    return int.from_bytes(share, "big")
