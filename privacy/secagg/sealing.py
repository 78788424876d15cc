"""Shares that pass through the coordinator so that only their receiver can read them.

    sealer = Sealer(1, session=session, identity=identity, roster=roster, randomness=os.urandom)
    box = sealer.seal(share, purpose=SELF_MASK, round_number=7, receiver=2)

AES-256-GCM (NIST SP 800-38D) under a key of each ordered pair of identities; purpose, round,
sender and receiver are authenticated with the share, so that no box can stand in for another.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy.errors import ShareRefused
from privacy.secagg.encoding import Randomness, index_bytes, kdf, number_bytes
from privacy.secagg.keys import Identity, PublicIdentity, agree
from privacy.secagg.shamir import SHARE_BYTES

ROUND_KEY = b"round key"
SELF_MASK = b"self mask"
_NONCE_BYTES = 12
_TAG_BYTES = 16
SEALED_BYTES = _NONCE_BYTES + SHARE_BYTES + _TAG_BYTES


class Sealer:
    """Seals a party's shares for the others and opens theirs.

    Raises:
        ProtocolError: a sealing key of the roster cannot be used.
    """

    def __init__(
        self,
        index: int,
        *,
        session: bytes,
        identity: Identity,
        roster: Mapping[int, PublicIdentity],
        randomness: Randomness,
    ) -> None:
        self._index = index
        self._randomness = randomness
        self._outgoing: dict[int, AESGCM] = {}
        self._incoming: dict[int, AESGCM] = {}
        for other, public in roster.items():
            if other != index:
                agreed = agree(identity.sealing, public.sealing_key, party=other)
                self._outgoing[other] = AESGCM(kdf(agreed, _key_label(session, index, other)))
                self._incoming[other] = AESGCM(kdf(agreed, _key_label(session, other, index)))

    def seal(self, share: bytes, *, purpose: bytes, round_number: int, receiver: int) -> bytes:
        """Returns 61 bytes that only the receiver can open."""
        nonce = self._randomness(_NONCE_BYTES)
        bound = purpose + number_bytes(round_number)
        return nonce + self._outgoing[receiver].encrypt(nonce, share, bound)

    def open(self, sealed: bytes, *, purpose: bytes, round_number: int, sender: int) -> bytes:
        """Returns the share that the sender sealed for this party.

        Raises:
            ShareRefused: it was changed, or sealed for another purpose, round or party.
        """
        bound = purpose + number_bytes(round_number)
        try:
            return self._incoming[sender].decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound
            )
        except (InvalidTag, ValueError):
            raise ShareRefused(
                f"the share of the {purpose.decode()} that party {sender} sealed for party "
                f"{self._index} does not open in round {round_number}"
            ) from None


def _key_label(session: bytes, sender: int, receiver: int) -> bytes:
    """Separates the keys by session and direction."""
    return b"fedmed secure sum 2 seal" + session + index_bytes([sender]) + index_bytes([receiver])
