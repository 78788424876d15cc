"""The hospital's half of a secure sum.

    hospital = Participant(2, parameters, identity, roster)
    enrolment = hospital.enrol(7)
    upload = hospital.upload(7, cohort_view, model_hash=h, vector=v, weight=1, counts=c)
    reveal = hospital.reveal(7, survivor_view)

The algorithm is double masking with pinned identities, a variant of Bonawitz et al., Practical
secure aggregation for privacy-preserving machine learning, CCS 2017, for rounds in which every
enrolled party finishes:

1. *Enrol.* Make an X25519 key (RFC 7748) for this round only and sign it with the pinned Ed25519
   identity (RFC 8032). Share its private half (Shamir 1979) and seal each share for its receiver.
2. Check the cohort that the coordinator shows: known parties, a quorum, this party's own key, each
   signature, each sealed share. Hash all that must be agreed on into the round's *context*.
3. *Upload.* Derive a mask key with each other party from the X25519 secret and the context
   (HKDF, RFC 5869). Of each pair the lower index adds the mask, the higher subtracts it, so that
   they cancel in the sum. Draw a seed and add a self mask derived from it and the context. Share
   and seal the seed, commit to it, sign the masked vector. Forget the round's private key.
4. Check the survivors that the coordinator shows: they are the whole cohort, each upload is signed
   under this party's own context.
5. *Reveal.* Open the shares of the survivors' seeds and answer with them, once. Forget them.

The coordinator rebuilds the seeds and removes the self masks, but pair masks leave only the whole
sum, and no share of a round's private key is revealed here.

What a participant holds of a round lives in memory only: after a restart it cannot answer for it.
The caller records each round number durably before ``enrol``, so that none is used twice. Protocol
and implementation have had no outside review.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import ArrayLike, NDArray

from privacy.errors import ParametersRefused, ProtocolError, RoundReused
from privacy.secagg.context import (
    check_round_number,
    enrolment_statement,
    pair_mask_key,
    reveal_statement,
    round_context,
    seed_commitment,
    self_mask_key,
    upload_digest,
    upload_statement,
)
from privacy.secagg.encoding import KEY_BYTES, Randomness
from privacy.secagg.keys import Identity, PublicIdentity, agree, check_roster
from privacy.secagg.masking import apply_masks
from privacy.secagg.messages import CohortView, Enrolment, Reveal, SurvivorView, Upload
from privacy.secagg.parameters import SumParameters
from privacy.secagg.quantiser import Quantiser
from privacy.secagg.sealing import ROUND_KEY, SELF_MASK, Sealer
from privacy.secagg.shamir import split
from privacy.secagg.views import check_cohort, check_survivors


@dataclass(frozen=True, slots=True)
class _Enrolled:
    """What is kept between enrolment and upload."""

    private_key: X25519PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Uploaded:
    """What is kept between upload and reveal."""

    context: bytes
    cohort: frozenset[int]
    own_share: bytes = field(repr=False)


class Participant:
    """One party of a session, for any number of its rounds.

    Args:
        index: this party's index in the roster.
        parameters: as this party built and approved them.
        identity: this party's private keys.
        roster: the pinned identity of every party, this one included.
        randomness: source of keys, seeds and nonces.

    Raises:
        ParametersRefused: index, identity and roster do not fit the parameters.
        ProtocolError: a sealing key cannot be used.
    """

    def __init__(
        self,
        index: int,
        parameters: SumParameters,
        identity: Identity,
        roster: Mapping[int, PublicIdentity],
        randomness: Randomness = os.urandom,
    ) -> None:
        self._roster = check_roster(roster, parameters)
        if self._roster.get(index) != identity.public:
            raise ParametersRefused(
                f"party {index}: the roster does not show this party's own identity "
                f"({identity.public.fingerprint()}) there"
            )
        self._index = index
        self._parameters = parameters
        self._identity = identity
        self._randomness = randomness
        self._sealer = Sealer(
            index,
            session=parameters.session,
            identity=identity,
            roster=self._roster,
            randomness=randomness,
        )
        # None: the round is answered for, and all its secrets are gone.
        self._rounds: dict[int, _Enrolled | _Uploaded | None] = {}

    def enrol(self, round_number: int) -> Enrolment:
        """Returns this party's key for a round and the sealed shares of it.

        Raises:
            RoundReused: this party has enrolled in the round before.
            ProtocolError: the number is no round number.
        """
        check_round_number(round_number)
        if round_number in self._rounds:
            raise RoundReused(f"party {self._index} has enrolled in round {round_number} before")
        private_key = X25519PrivateKey.from_private_bytes(self._randomness(KEY_BYTES))
        public_key = private_key.public_key().public_bytes_raw()
        shares = self._share(private_key.private_bytes_raw(), self._parameters.roster)
        self._rounds[round_number] = _Enrolled(private_key)
        return Enrolment(
            index=self._index,
            round_number=round_number,
            public_key=public_key,
            signature=self._identity.signing.sign(
                enrolment_statement(self._parameters.session, round_number, self._index, public_key)
            ),
            sealed_shares=self._seal(shares, ROUND_KEY, round_number),
        )

    def upload(
        self,
        round_number: int,
        view: CohortView,
        *,
        model_hash: bytes,
        vector: NDArray[np.float32],
        weight: int,
        counts: ArrayLike,
    ) -> Upload:
        """Returns this party's masked vector.

        After a refusal the round is still open and nothing has been said.

        Args:
            round_number: a round in which this party has enrolled.
            view: the cohort as the coordinator shows it.
            model_hash: SHA-256 of the weights this party started from, 32 bytes.
            vector: float32 (dimension,), finite; beyond the clip it is clipped.
            weight: 0 to max_weight.
            counts: integers (counters,), each from 0 to 2^32 - 1.

        Raises:
            RoundReused: this party has uploaded in the round before.
            CohortRefused, SignatureRefused, ShareRefused: see ``views.check_cohort``.
            InputRefused: vector, weight, counts or model_hash cannot be used.
            ProtocolError: this party has not enrolled, or a key cannot be used.
        """
        enrolled = self._enrolled(round_number)
        check_cohort(
            view,
            round_number=round_number,
            receiver=self._index,
            own_key=enrolled.private_key.public_key().public_bytes_raw(),
            parameters=self._parameters,
            roster=self._roster,
            sealer=self._sealer,
        )
        context = round_context(
            parameters=self._parameters,
            round_number=round_number,
            model_hash=model_hash,
            public_keys=view.public_keys,
            roster=self._roster,
        )
        quantiser = Quantiser(
            vector,
            weight=weight,
            counts=counts,
            parameters=self._parameters,
            rounding_key=self._randomness(KEY_BYTES),
        )
        seed = self._randomness(KEY_BYTES)
        add = [self_mask_key(seed, context)]
        subtract: list[bytes] = []
        for other in sorted(set(view.public_keys) - {self._index}):
            agreed = agree(enrolled.private_key, view.public_keys[other], party=other)
            (add if self._index < other else subtract).append(pair_mask_key(agreed, context))
        masked = np.empty(self._parameters.length, self._parameters.dtype)
        apply_masks(masked, add=add, subtract=subtract, fill=quantiser.fill)

        commitment = seed_commitment(seed, context, index=self._index)
        statement = upload_statement(context, self._index, upload_digest(masked, commitment))
        shares = self._share(seed, view.public_keys)
        cohort = frozenset(view.public_keys)
        self._rounds[round_number] = _Uploaded(context, cohort, shares[self._index])
        return Upload(
            index=self._index,
            round_number=round_number,
            masked=masked,
            commitment=commitment,
            signature=self._identity.signing.sign(statement),
            sealed_shares=self._seal(shares, SELF_MASK, round_number),
        )

    def reveal(self, round_number: int, view: SurvivorView) -> Reveal:
        """Returns this party's shares of the survivors' seeds; it answers once.

        Raises:
            RoundReused: this party has answered for the round before.
            CohortRefused: the survivors are not the cohort this party masked for.
            SignatureRefused: an upload is not its sender's, or was made under another context.
            ShareRefused: a sealed share does not open.
            ProtocolError: this party has not uploaded.
        """
        uploaded = self._uploaded(round_number)
        check_survivors(
            view,
            round_number=round_number,
            receiver=self._index,
            cohort=uploaded.cohort,
            context=uploaded.context,
            roster=self._roster,
        )
        shares = {
            other: self._sealer.open(
                sealed, purpose=SELF_MASK, round_number=round_number, sender=other
            )
            for other, sealed in view.sealed_shares.items()
        }
        shares[self._index] = uploaded.own_share
        statement = reveal_statement(uploaded.context, self._index, shares)
        self._rounds[round_number] = None
        return Reveal(
            index=self._index,
            round_number=round_number,
            shares=shares,
            signature=self._identity.signing.sign(statement),
        )

    def _enrolled(self, round_number: int) -> _Enrolled:
        """Returns what is kept of a round that waits for its upload."""
        state = self._state(round_number)
        if not isinstance(state, _Enrolled):
            raise RoundReused(f"party {self._index} has uploaded in round {round_number} before")
        return state

    def _uploaded(self, round_number: int) -> _Uploaded:
        """Returns what is kept of a round that waits for its reveal."""
        state = self._state(round_number)
        if isinstance(state, _Enrolled):
            raise ProtocolError(f"party {self._index} has not uploaded in round {round_number}")
        if state is None:
            raise RoundReused(f"party {self._index} has revealed in round {round_number} before")
        return state

    def _state(self, round_number: int) -> _Enrolled | _Uploaded | None:
        """Returns what is kept of a round."""
        if round_number in self._rounds:
            return self._rounds[round_number]
        raise ProtocolError(f"party {self._index} has not enrolled in round {round_number}")

    def _share(self, secret: bytes, parties: Collection[int]) -> dict[int, bytes]:
        """Splits a secret among the parties."""
        return split(
            secret,
            quorum=self._parameters.quorum,
            indices=sorted(parties),
            randomness=self._randomness,
        )

    def _seal(
        self, shares: Mapping[int, bytes], purpose: bytes, round_number: int
    ) -> dict[int, bytes]:
        """Seals each share but this party's own."""
        return {
            other: self._sealer.seal(
                share, purpose=purpose, round_number=round_number, receiver=other
            )
            for other, share in shares.items()
            if other != self._index
        }
