"""How a hospital joins: the one-time code, and what its keys sign.

    code = new_join_code()                  # "7K2M-Q0ZT-…": seven groups of four
    code_digest(parse_join_code("7k2m q0zt …"))

The code travels by telephone or paper: Crockford's base 32 (no I, L, O, U; case does not matter),
and a last character by which every single wrong character and every two swapped ones are noticed.

A hospital proves that it holds the keys that it shows by an Ed25519 signature (RFC 8032) over
`join_statement`; who replaces its keys signs `replacement_statement` with the old and the new one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import struct
import unicodedata
from collections.abc import Callable
from typing import Annotated, Final

from pydantic import AfterValidator

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_SYMBOLS: Final = 27  # of 5 bits: 135
_GROUP: Final = 4
_LOOK_ALIKE: Final = str.maketrans("OIL", "011")
_SEPARATORS: Final = re.compile(r"[\s\-‐-―]")
_JOIN: Final = b"fedmed/join/1"
_REPLACE: Final = b"fedmed/replace-identity/1"

_HOSPITAL_ID_CHARACTERS: Final = 63


class JoinCodeMistyped(ValueError):
    """The text is no join code; it does not repeat it."""


def new_join_code(randomness: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Returns a fresh code of 135 random bits and a check character, in groups of four."""
    values = [byte & 31 for byte in randomness(_RANDOM_SYMBOLS)]
    values.append(_times_x(_remainder(values)))
    text = "".join(_ALPHABET[value] for value in values)
    return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def parse_join_code(text: str) -> str:
    """Returns the code in its one form, however it was grouped and in whichever case.

    Raises:
        JoinCodeMistyped: a character is missing, wrong or swapped with another.
    """
    plain = _SEPARATORS.sub("", text).upper().translate(_LOOK_ALIKE)
    if odd := sorted(set(plain) - set(_ALPHABET)):
        raise JoinCodeMistyped(f"a join code has no character {', '.join(map(repr, odd[:3]))}")
    if len(plain) != _RANDOM_SYMBOLS + 1:
        raise JoinCodeMistyped(
            f"a join code has {_RANDOM_SYMBOLS + 1} characters in groups of {_GROUP}, this one has "
            f"{len(plain)}"
        )
    if _remainder([_ALPHABET.index(character) for character in plain]):
        raise JoinCodeMistyped(
            "a character of the join code is wrong, or two are swapped: compare it with what the "
            "operator was shown"
        )
    return plain


JoinCodeText = Annotated[str, AfterValidator(parse_join_code)]


def code_digest(code: str) -> str:
    """Returns what is stored of a parsed code: its SHA-256, in hex."""
    return hashlib.sha256(code.encode()).hexdigest()


def join_statement(
    *, code_digest: str, signing_key: str, sealing_key: str, secret_digest: str
) -> bytes:
    """Returns what a hospital's new signing key signs when it joins; 32 bytes each in hex."""
    return _framed(
        _JOIN, *map(bytes.fromhex, (code_digest, signing_key, sealing_key, secret_digest))
    )


def replacement_statement(
    *, hospital_id: str, old_signing_key: str, signing_key: str, sealing_key: str
) -> bytes:
    """Returns what the old and the new signing key sign when a hospital replaces its keys."""
    keys = map(bytes.fromhex, (old_signing_key, signing_key, sealing_key))
    return _framed(_REPLACE, hospital_id.encode(), *keys)


def hospital_id_of(name: str) -> str:
    """Returns the id that a hospital has unless another is chosen; empty when the name has none.

    >>> hospital_id_of("Charité – Universitätsmedizin Berlin")
    'charite-universitatsmedizin-berlin'
    """
    # Dashes and the like are not ASCII: they must part words, not join them.
    parted = re.sub(r"[^\w\s]", " ", unicodedata.normalize("NFKC", name).casefold())
    plain = unicodedata.normalize("NFKD", parted).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:_HOSPITAL_ID_CHARACTERS].strip("-")


def _framed(*parts: bytes) -> bytes:
    """The parts, each after its length, so that no two lists are the same bytes."""
    return b"".join(struct.pack("<Q", len(part)) + part for part in parts)


def _remainder(values: list[int]) -> int:
    """The values as coefficients of a polynomial over GF(32), at x."""
    remainder = 0
    for value in values:
        remainder = _times_x(remainder) ^ value
    return remainder


def _times_x(value: int) -> int:
    """The product with x in GF(2)[x] modulo x^5 + x^2 + 1, of which x has order 31."""
    doubled = value << 1
    return doubled ^ 0b100101 if doubled & 32 else doubled
