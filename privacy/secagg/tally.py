"""What the coordinator holds of an open round: one running sum, and all but the vectors beside it.

    tally = Tally.begin(7, enrolments, model_hash=h, parameters=parameters, roster=roster)
    tally.fold(upload, masked, digest)
    add, subtract = tally.remaining_masks(recovery)

Nothing here checks what it is given; ``admission`` has done that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.secagg.context import pair_mask_keys, round_context, seed_commitment, self_mask_key
from privacy.secagg.keys import PublicIdentity
from privacy.secagg.masking import MaskedVector
from privacy.secagg.messages import CohortView, Enrolment, SurvivorView, Upload
from privacy.secagg.parameters import SumParameters
from privacy.secagg.recovery import Recovery
from privacy.secagg.sealing import ROUND_KEY, SELF_MASK


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is kept of an upload: all but its vector."""

    vector_digest: bytes
    commitment: bytes
    signature: bytes
    sealed_shares: Mapping[int, bytes]
    share_commitments: Mapping[int, bytes]
    bad_dealers: tuple[int, ...]


@dataclass(slots=True)
class Tally:
    """An open round.

    Attributes:
        number: the round.
        context: as the coordinator computed it.
        enrolments: of the cohort, ascending.
        total: the sum of the masked vectors so far.
        receipts: what is kept of each upload.
        echoes: signatures of the survivors that accept the survivors.
        closed: whether the survivors are fixed.
    """

    number: int
    context: bytes
    enrolments: Mapping[int, Enrolment]
    total: MaskedVector
    receipts: dict[int, Receipt] = field(default_factory=dict)
    echoes: dict[int, bytes] = field(default_factory=dict)
    closed: bool = False

    @classmethod
    def begin(
        cls,
        number: int,
        enrolments: Mapping[int, Enrolment],
        *,
        model_hash: bytes,
        parameters: SumParameters,
        roster: Mapping[int, PublicIdentity],
    ) -> Self:
        """Returns a round of the parties that enrolled, in ascending order."""
        context = round_context(
            parameters=parameters,
            round_number=number,
            model_hash=model_hash,
            public_keys={index: message.public_key for index, message in enrolments.items()},
            roster=roster,
        )
        return cls(number, context, enrolments, np.zeros(parameters.length, parameters.dtype))

    @property
    def cohort(self) -> tuple[int, ...]:
        """The parties that enrolled."""
        return tuple(self.enrolments)

    @property
    def survivors(self) -> tuple[int, ...]:
        """Those of them whose upload is in the sum."""
        return tuple(index for index in self.enrolments if index in self.receipts)

    @property
    def dropped(self) -> tuple[int, ...]:
        """Those of them whose upload is not."""
        return tuple(index for index in self.enrolments if index not in self.receipts)

    def fold(self, upload: Upload, masked: MaskedVector, vector_digest: bytes) -> None:
        """Adds an upload's vector to the sum and keeps all else of it."""
        np.add(self.total, masked, out=self.total)
        self.receipts[upload.index] = Receipt(
            vector_digest,
            upload.commitment,
            upload.signature,
            dict(upload.sealed_shares),
            dict(upload.share_commitments),
            tuple(sorted(upload.bad_dealers)),
        )

    def cohort_views(self) -> dict[int, CohortView]:
        """Returns what to show each party of the cohort."""
        messages = self.enrolments.items()
        public_keys = {index: message.public_key for index, message in messages}
        signatures = {index: message.signature for index, message in messages}
        commitments = {index: message.share_commitments for index, message in messages}
        sealed = {index: message.sealed_shares for index, message in messages}
        return {
            receiver: CohortView(
                self.number, public_keys, signatures, commitments, _addressed_to(receiver, sealed)
            )
            for receiver in self.cohort
        }

    def survivor_views(self) -> dict[int, SurvivorView]:
        """Returns what to show each survivor."""
        survivors, dropped = self.survivors, self.dropped
        receipts = {index: self.receipts[index] for index in survivors}
        digests = {index: receipt.vector_digest for index, receipt in receipts.items()}
        seeds = {index: receipt.commitment for index, receipt in receipts.items()}
        commitments = {index: receipt.share_commitments for index, receipt in receipts.items()}
        signatures = {index: receipt.signature for index, receipt in receipts.items()}
        sealed = {index: receipt.sealed_shares for index, receipt in receipts.items()}
        return {
            receiver: SurvivorView(
                self.number,
                digests,
                seeds,
                commitments,
                signatures,
                _addressed_to(receiver, sealed),
                dropped,
            )
            for receiver in survivors
        }

    def remaining_masks(self, recovery: Recovery) -> tuple[list[bytes], list[bytes]]:
        """Returns the keys of the masks to add to the sum, and of those to subtract from it.

        The survivors' self masks are subtracted. The pair masks that a dropped party would have
        added and subtracted are added and subtracted in its place, so that the survivors' cancel.

        Raises:
            ShareRefused: a secret cannot be rebuilt.
        """
        add: list[bytes] = []
        subtract: list[bytes] = []
        for dealer in self.survivors:
            seed = recovery.rebuild(
                dealer,
                SELF_MASK,
                self.receipts[dealer].share_commitments,
                is_right=partial(self._is_seed, dealer),
            )
            subtract.append(self_mask_key(seed, self.context))
        public_keys = {index: self.enrolments[index].public_key for index in self.survivors}
        for dealer in self.dropped:
            secret = recovery.rebuild(
                dealer,
                ROUND_KEY,
                self.enrolments[dealer].share_commitments,
                is_right=partial(self._is_round_key, dealer),
            )
            added, subtracted = pair_mask_keys(
                X25519PrivateKey.from_private_bytes(secret),
                public_keys,
                self.context,
                index=dealer,
            )
            add += added
            subtract += subtracted
        return add, subtract

    def _is_seed(self, dealer: int, seed: bytes) -> bool:
        """Whether it is the seed that the dealer committed to."""
        commitment = self.receipts[dealer].commitment
        return seed_commitment(seed, self.context, index=dealer) == commitment

    def _is_round_key(self, dealer: int, secret: bytes) -> bool:
        """Whether it is the private half of the key that the dealer enrolled with."""
        public_key = X25519PrivateKey.from_private_bytes(secret).public_key()
        return public_key.public_bytes_raw() == self.enrolments[dealer].public_key


def _addressed_to(receiver: int, sealed: Mapping[int, Mapping[int, bytes]]) -> dict[int, bytes]:
    """Returns the shares that the others sealed for the receiver, by their sender."""
    return {sender: shares[receiver] for sender, shares in sealed.items() if sender != receiver}
