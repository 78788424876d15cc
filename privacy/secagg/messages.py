"""What passes between the parties and the coordinator: frozen values of raw bytes.

A round has three messages from each party and two to it; a round that lost a party has two more::

    party        ── Enrolment ──►  coordinator      keys of the round, sealed shares of its own
    coordinator  ── CohortView ──►  party           who takes part, what they sent to this party
    party        ── Upload ──►  coordinator         the masked vector, shares of its self mask
    coordinator  ── SurvivorView ──►  party         whose uploads arrived
    party        ── Echo ──►  coordinator           after a loss: that it accepts these survivors
    coordinator  ── Certificate ──►  party          after a loss: that a quorum accepts them
    party        ── Reveal ──►  coordinator         its shares of the survivors' self masks and of
                                                    the dropped parties' round keys

Mappings go by the index of a party. A sealed share is readable by one party only. A share
commitment is 32 bytes that fix a share without showing it.
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
        signature: Ed25519, 64 bytes, over session, round, key and share commitments.
        sealed_shares: shares of the private key, by the party that can open each; they allow a
            round to survive the loss of its sender.
        share_commitments: of each party of the roster, the sender included.
    """

    index: int
    round_number: int
    public_key: bytes
    signature: bytes
    sealed_shares: Mapping[int, bytes]
    share_commitments: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class CohortView:
    """The parties of a round, as the coordinator shows them to one of them.

    Attributes:
        round_number: the round.
        public_keys: the key of each party in the cohort, the receiver included.
        signatures: the signature of each enrolment.
        share_commitments: those of each enrolment.
        sealed_shares: the share that each other party sealed for the receiver.
    """

    round_number: int
    public_keys: Mapping[int, bytes]
    signatures: Mapping[int, bytes]
    share_commitments: Mapping[int, Mapping[int, bytes]]
    sealed_shares: Mapping[int, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """A party's masked vector.

    Attributes:
        index: the sender.
        round_number: the round.
        masked: (length,) of the agreed type: quantised elements and digits plus all masks.
        commitment: 32 bytes that bind the sender to its self mask without showing it.
        signature: Ed25519, 64 bytes, over the round's context and all else but the sealed shares.
        sealed_shares: shares of the self mask's seed, by the party that can open each.
        share_commitments: of each party of the cohort, the sender included.
        bad_dealers: parties whose share of their round key was unusable to the sender, ascending;
            it goes on without them.
    """

    index: int
    round_number: int
    masked: MaskedVector
    commitment: bytes
    signature: bytes
    sealed_shares: Mapping[int, bytes]
    share_commitments: Mapping[int, bytes]
    bad_dealers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SurvivorView:
    """The parties whose uploads arrived, as the coordinator shows them to one of them.

    Attributes:
        round_number: the round.
        vector_digests: 32 bytes for each survivor, over its masked vector and its bad dealers.
        commitments: the seed commitment of each upload.
        share_commitments: those of each upload.
        signatures: the signature of each upload.
        sealed_shares: the share that each other survivor sealed for the receiver.
        dropped: the rest of the cohort, ascending; what they uploaded, if anything, is not summed.
    """

    round_number: int
    vector_digests: Mapping[int, bytes]
    commitments: Mapping[int, bytes]
    share_commitments: Mapping[int, Mapping[int, bytes]]
    signatures: Mapping[int, bytes]
    sealed_shares: Mapping[int, bytes]
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Echo:
    """A party's word that it accepts one set of survivors, and no other, in this round.

    Attributes:
        index: the sender.
        round_number: the round.
        survivors: the set, ascending.
        signature: Ed25519, 64 bytes, over the round's context and the set.
    """

    index: int
    round_number: int
    survivors: tuple[int, ...]
    signature: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    """The echoes of a quorum: no other set of survivors can have as many.

    Attributes:
        round_number: the round.
        survivors: the set, ascending.
        signatures: those of the echoes, by their sender.
    """

    round_number: int
    survivors: tuple[int, ...]
    signatures: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Reveal:
    """A party's one answer to one set of survivors.

    A share that its dealer spoiled is left out; there is never a share of both kinds of one dealer.

    Attributes:
        index: the sender.
        round_number: the round.
        shares: its shares of the survivors' self masks' seeds, 33 bytes each.
        key_shares: its shares of the dropped parties' round keys, 33 bytes each.
        signature: Ed25519, 64 bytes, over the round's context, the survivors and all shares.
    """

    index: int
    round_number: int
    shares: Mapping[int, bytes]
    key_shares: Mapping[int, bytes]
    signature: bytes
