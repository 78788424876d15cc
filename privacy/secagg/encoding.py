"""Unambiguous bytes: hashes of several parts, derived keys, the source of randomness.

key = kdf(shared_secret, b"pair" + context)
digest(b"label", first, second)      # never equal to digest(b"label", first + second)
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

Randomness = Callable[[int], bytes]
"""Returns so many random bytes, as ``os.urandom`` does."""

DIGEST_BYTES = 32
KEY_BYTES = 32


def digest(*parts: bytes | memoryview) -> bytes:
    """Returns the SHA-256 of the parts, each preceded by its length, so that no two lists collide.

    >>> digest(b"ab", b"c") == digest(b"a", b"bc")
    False
    """
    hasher = hashlib.sha256()
    for part in parts:
        with memoryview(part) as view:
            hasher.update(struct.pack("<Q", view.nbytes))
            hasher.update(view)
    return hasher.digest()


def kdf(secret: bytes, info: bytes) -> bytes:
    """Returns a 32-byte key: HKDF-SHA256 (RFC 5869) without salt.

    >>> kdf(b"s" * 32, b"one") == kdf(b"s" * 32, b"two")
    False
    """
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(secret)


def number_bytes(number: int) -> bytes:
    """Returns the number as eight little-endian bytes."""
    return struct.pack("<Q", number)


def index_bytes(indices: Iterable[int]) -> bytes:
    """Returns the indices in ascending order, four little-endian bytes each."""
    return b"".join(struct.pack("<I", index) for index in sorted(indices))
