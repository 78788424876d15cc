"""What a round binds together: its context, the keys derived under it, the statements to sign.

The context is a hash of all that the parties must agree on. Each party computes it from its own
view and derives every mask key under it: if the coordinator shows two parties different views,
their masks do not cancel and the sum is noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.errors import InputRefused, ProtocolError
from privacy.secagg.encoding import DIGEST_BYTES, digest, index_bytes, kdf, number_bytes
from privacy.secagg.keys import PublicIdentity, agree
from privacy.secagg.masking import MaskedVector
from privacy.secagg.parameters import SumParameters
from privacy.secagg.shamir import SHARE_BYTES

_PROTOCOL = b"fedmed secure sum 2 "
_LAST_ROUND = 2**32 - 1


def check_round_number(round_number: int) -> None:
    """Raises ProtocolError when the number is no integer of 1 to 2^32 - 1."""
    if type(round_number) is not int:
        raise ProtocolError(f"round number: an int is needed, not {type(round_number).__name__}")
    if not 1 <= round_number <= _LAST_ROUND:
        raise ProtocolError(f"round number: {round_number} must lie in 1 to {_LAST_ROUND}")


def round_context(
    *,
    parameters: SumParameters,
    round_number: int,
    model_hash: bytes,
    public_keys: Mapping[int, bytes],
    roster: Mapping[int, PublicIdentity],
) -> bytes:
    """Returns 32 bytes that bind session, round, parameters, model, cohort, keys and identities.

    Args:
        parameters: the party's own.
        round_number: the round.
        model_hash: SHA-256 of the weights the round starts from, 32 bytes.
        public_keys: the round's key of each party in the cohort.
        roster: the pinned identities.

    Raises:
        InputRefused: the model's hash is not 32 bytes long.
    """
    if type(model_hash) is not bytes or len(model_hash) != DIGEST_BYTES:
        raise InputRefused(f"model_hash: {DIGEST_BYTES} raw bytes are needed, not {model_hash!r}")
    cohort = sorted(public_keys)
    return digest(
        _PROTOCOL + b"context",
        parameters.encode(),
        number_bytes(round_number),
        model_hash,
        index_bytes(cohort),
        *(public_keys[index] for index in cohort),
        *(roster[index].signing_key + roster[index].sealing_key for index in cohort),
    )


def pair_mask_key(agreed: bytes, context: bytes) -> bytes:
    """Returns the key of the mask that two parties share."""
    return kdf(agreed, _PROTOCOL + b"pair" + context)


def pair_mask_keys(
    private_key: X25519PrivateKey, public_keys: Mapping[int, bytes], context: bytes, *, index: int
) -> tuple[list[bytes], list[bytes]]:
    """Returns the keys of the masks that a party adds, and of those that it subtracts.

    Of each pair the lower index adds the mask and the higher subtracts it.

    Args:
        private_key: the party's, of the round.
        public_keys: the other parties' keys; an entry of the party itself is left out.
        context: the round's.
        index: the party.

    Raises:
        ProtocolError: another party's key cannot be used.
    """
    add: list[bytes] = []
    subtract: list[bytes] = []
    for other in sorted(set(public_keys) - {index}):
        agreed = agree(private_key, public_keys[other], party=other)
        (add if index < other else subtract).append(pair_mask_key(agreed, context))
    return add, subtract


def self_mask_key(seed: bytes, context: bytes) -> bytes:
    """Returns the key of the mask that one party adds for itself."""
    return kdf(seed, _PROTOCOL + b"self" + context)


def seed_commitment(seed: bytes, context: bytes, *, index: int) -> bytes:
    """Returns 32 bytes that fix a party's seed and, the seed being 256 random bits, hide it."""
    return digest(_PROTOCOL + b"commitment", context, number_bytes(index), seed)


def share_commitment(
    share: bytes, *, purpose: bytes, session: bytes, round_number: int, dealer: int, receiver: int
) -> bytes:
    """Returns 32 bytes that fix a share and, a share being 256 random bits, hide it.

    The coordinator tells by it which of the revealed shares are those that were dealt.
    """
    return digest(
        _PROTOCOL + b"share of the " + purpose,
        session,
        number_bytes(round_number),
        number_bytes(dealer),
        number_bytes(receiver),
        share,
    )


def vector_digest(masked: MaskedVector, bad_dealers: Iterable[int]) -> bytes:
    """Returns 32 bytes that fix a masked vector and whom its sender names.

    The vector goes through BLAKE3 (O'Connor et al. 2020), which takes a fifth of SHA-256's time:
    nothing else that the coordinator does with a vector would cost as much.
    """
    content = blake3(masked.view(np.uint8).data).digest()
    return digest(_PROTOCOL + b"vector", index_bytes(bad_dealers), content)


def upload_digest(
    vector: bytes, commitment: bytes, share_commitments: Mapping[int, bytes]
) -> bytes:
    """Returns 32 bytes that fix the content of an upload, from the digest of its vector."""
    return digest(
        _PROTOCOL + b"upload", vector, commitment, *_fixed(share_commitments, DIGEST_BYTES)
    )


def enrolment_statement(
    session: bytes,
    round_number: int,
    index: int,
    public_key: bytes,
    share_commitments: Mapping[int, bytes],
) -> bytes:
    """Returns what an enrolment's signature covers."""
    return digest(
        _PROTOCOL + b"enrolment signature",
        session,
        number_bytes(round_number),
        number_bytes(index),
        public_key,
        *_fixed(share_commitments, DIGEST_BYTES),
    )


def upload_statement(context: bytes, index: int, content: bytes) -> bytes:
    """Returns what an upload's signature covers."""
    return digest(_PROTOCOL + b"upload signature", context, number_bytes(index), content)


def survivors_digest(context: bytes, survivors: Iterable[int]) -> bytes:
    """Returns 32 bytes that fix a set of survivors."""
    return digest(_PROTOCOL + b"survivors", context, index_bytes(survivors))


def echo_statement(context: bytes, index: int, survivors: Iterable[int]) -> bytes:
    """Returns what an echo's signature covers."""
    return digest(
        _PROTOCOL + b"echo signature", context, number_bytes(index), index_bytes(survivors)
    )


def reveal_statement(
    context: bytes,
    index: int,
    survivors: Iterable[int],
    *,
    shares: Mapping[int, bytes],
    key_shares: Mapping[int, bytes],
) -> bytes:
    """Returns what a reveal's signature covers."""
    return digest(
        _PROTOCOL + b"reveal signature",
        context,
        number_bytes(index),
        index_bytes(survivors),
        *_fixed(shares, SHARE_BYTES),
        *_fixed(key_shares, SHARE_BYTES),
    )


def _fixed(values: Mapping[int, bytes], size: int) -> tuple[bytes, bytes]:
    """Returns indices and values, in ascending order, as two parts of a digest.

    Raises:
        ProtocolError: a value has another size, so that the joined values would be ambiguous.
    """
    indices = sorted(values)
    for index in indices:
        if len(values[index]) != size:
            raise ProtocolError(
                f"the value for party {index} has {len(values[index])} bytes, {size} are needed"
            )
    return index_bytes(indices), b"".join(values[index] for index in indices)
