"""The long-lived keys of a party and the public half that the others pin.

    identity = Identity.generate()
    identity.public.fingerprint()        # read out over the telephone before the first training

Signatures are Ed25519 (RFC 8032), agreed secrets X25519 (RFC 7748).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from privacy.errors import ParametersRefused, ProtocolError, SignatureRefused
from privacy.secagg.encoding import KEY_BYTES, Randomness
from privacy.secagg.parameters import SumParameters

SIGNATURE_BYTES = 64
_FINGERPRINT_DIGITS = 32


@dataclass(frozen=True, slots=True)
class PublicIdentity:
    """The public keys of a party: 32 raw bytes each, for signatures and for sealed shares.

    Raises:
        ParametersRefused: a key is not 32 bytes long.
    """

    signing_key: bytes
    sealing_key: bytes

    def __post_init__(self) -> None:
        for name, key in (("signing_key", self.signing_key), ("sealing_key", self.sealing_key)):
            if type(key) is not bytes or len(key) != KEY_BYTES:
                raise ParametersRefused(f"{name}: {KEY_BYTES} raw bytes are needed, not {key!r}")

    @classmethod
    def from_hex(cls, *, signing_key: str, sealing_key: str) -> Self:
        """Reads both keys from 64 hexadecimal digits each.

        Raises:
            ParametersRefused: a key is not 64 hexadecimal digits.
        """
        try:
            return cls(bytes.fromhex(signing_key), bytes.fromhex(sealing_key))
        except ValueError as error:
            raise ParametersRefused(f"an identity key is not hexadecimal: {error}") from error

    def to_hex(self) -> dict[str, str]:
        """Returns both keys in hexadecimal digits, under the names that `from_hex` takes."""
        return {
            "signing_key": self.signing_key.hex(),
            "sealing_key": self.sealing_key.hex(),
        }

    def fingerprint(self) -> str:
        """Returns 128 bits of the SHA-256 of both keys, for people to compare.

        >>> PublicIdentity(bytes(32), bytes(32)).fingerprint()
        'f5a5-fd42-d16a-2030-2798-ef6e-d309-979b'
        """
        digits = hashlib.sha256(self.signing_key + self.sealing_key).hexdigest()
        return "-".join(digits[at : at + 4] for at in range(0, _FINGERPRINT_DIGITS, 4))

    def verify(self, signature: bytes, statement: bytes, *, what: str) -> None:
        """Returns only if this party signed the statement.

        Raises:
            SignatureRefused: it did not; ``what`` opens the message.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.signing_key).verify(signature, statement)
        except InvalidSignature:
            raise SignatureRefused(
                f"{what}: the signature does not verify under the pinned key "
                f"({self.fingerprint()}); it was changed, or its sender holds another key, model, "
                f"cohort or parameters"
            ) from None


@dataclass(frozen=True, slots=True)
class Identity:
    """The private keys of a party; they never leave it."""

    signing: Ed25519PrivateKey = field(repr=False)
    sealing: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, randomness: Randomness = os.urandom) -> Self:
        """Returns fresh keys."""
        return cls.from_private_bytes(randomness(2 * KEY_BYTES))

    @classmethod
    def from_private_bytes(cls, data: bytes) -> Self:
        """Reads what ``private_bytes`` wrote.

        Raises:
            ParametersRefused: the data is not 64 bytes long; the message does not show it.
        """
        if len(data) != 2 * KEY_BYTES:
            raise ParametersRefused(f"identity: {2 * KEY_BYTES} bytes are needed, not {len(data)}")
        return cls(
            Ed25519PrivateKey.from_private_bytes(data[:KEY_BYTES]),
            X25519PrivateKey.from_private_bytes(data[KEY_BYTES:]),
        )

    def private_bytes(self) -> bytes:
        """Returns 64 bytes: the signing key, then the sealing key. Keep them in a file of 0600."""
        return self.signing.private_bytes_raw() + self.sealing.private_bytes_raw()

    @property
    def public(self) -> PublicIdentity:
        """The public half."""
        return PublicIdentity(
            self.signing.public_key().public_bytes_raw(),
            self.sealing.public_key().public_bytes_raw(),
        )


def check_roster(
    roster: Mapping[int, PublicIdentity], parameters: SumParameters
) -> dict[int, PublicIdentity]:
    """Returns a copy of the roster.

    Raises:
        ParametersRefused: it does not name exactly the parties of the parameters, or a key twice.
    """
    if set(roster) != set(parameters.roster):
        raise ParametersRefused(
            f"roster: identities are given for {sorted(roster)}, "
            f"the parameters name {list(parameters.roster)}"
        )
    for keys in (
        [identity.signing_key for identity in roster.values()],
        [identity.sealing_key for identity in roster.values()],
    ):
        if len(set(keys)) != len(keys):
            raise ParametersRefused("roster: two parties have the same key")
    return dict(roster)


def agree(private_key: X25519PrivateKey, public_key: bytes, *, party: int) -> bytes:
    """Returns the secret of 32 bytes shared with a party.

    Raises:
        ProtocolError: the party's key is of low order (RFC 7748, section 6.1).
    """
    try:
        return private_key.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError as error:
        raise ProtocolError(f"party {party}: its X25519 key cannot be used: {error}") from error
