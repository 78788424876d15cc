"""What passes between the parties and the coordinator: frozen values of raw bytes.

A round has three messages from each party and two to it::

    party        ── Enrolment ──►  coordinator      keys of the round, sealed shares of its own
    coordinator  ── CohortView ──►  party           who takes part, what they sent to this party
    party        ── Upload ──►  coordinator         the masked vector, shares of its self mask
    coordinator  ── SurvivorView ──►  party         whose uploads arrived
    party        ── Reveal ──►  coordinator         its shares of the survivors' self masks

Mappings go by the index of a party. A sealed share is readable by one party only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from privacy.secagg.masking import MaskedVector


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A party's key for one round.

    Attributes:
        index: the sender.
        round_number: the round.
        public_key: X25519, 32 bytes, made for this round.
        signature: Ed25519, 64 bytes, by the sender's identity.
        sealed_shares: shares of the private key, by the party that can open each; they allow a
            round to survive the loss of its sender.
    """

    index: int
    round_number: int
    public_key: bytes
    signature: bytes
    sealed_shares: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class CohortView:
    """The parties of a round, as the coordinator shows them to one of them.

    Attributes:
        round_number: the round.
        public_keys: the key of each party in the cohort, the receiver included.
        signatures: the signature of each enrolment.
        sealed_shares: the share that each other party sealed for the receiver.
    """

    round_number: int
    public_keys: Mapping[int, bytes]
    signatures: Mapping[int, bytes]
    sealed_shares: Mapping[int, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """A party's masked vector.

    Attributes:
        index: the sender.
        round_number: the round.
        masked: (length,) of the agreed type: quantised elements and digits plus all masks.
        commitment: 32 bytes that bind the sender to its self mask without showing it.
        signature: Ed25519, 64 bytes, over the round's context, the vector and the commitment.
        sealed_shares: shares of the self mask's seed, by the party that can open each.
    """

    index: int
    round_number: int
    masked: MaskedVector
    commitment: bytes
    signature: bytes
    sealed_shares: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class SurvivorView:
    """The parties whose uploads arrived, as the coordinator shows them to one of them.

    Attributes:
        round_number: the round.
        upload_digests: 32 bytes for each survivor: what its signature covers.
        signatures: the signature of each upload.
        sealed_shares: the share that each other survivor sealed for the receiver.
    """

    round_number: int
    upload_digests: Mapping[int, bytes]
    signatures: Mapping[int, bytes]
    sealed_shares: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Reveal:
    """A party's one answer to one set of survivors.

    Attributes:
        index: the sender.
        round_number: the round.
        shares: its share of the self mask's seed of each survivor, 33 bytes each.
        signature: Ed25519, 64 bytes, over the round's context and the shares.
    """

    index: int
    round_number: int
    shares: Mapping[int, bytes]
    signature: bytes
