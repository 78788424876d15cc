"""Dealing a secret: a share for each party, sealed for its receiver and fixed by a commitment.

    dealt = dealer.deal(secret, purpose=SELF_MASK, round_number=7, parties=(1, 2, 3))
    share = dealer.receive(sealed, commitment, purpose=SELF_MASK, round_number=7, sender=2)

The commitments are signed with the message that carries the sealed shares. A receiver holds what it
opens to them, and later the coordinator what is revealed: a wrong share is traced to whoever sent
it, and the secret is rebuilt from the right ones. (Feldman's commitments would also show that the
shares lie on one polynomial; here that comes to light when the rebuilt secret is not the one that
the dealer committed to, and names the dealer too.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from privacy.errors import ShareRefused
from privacy.secagg.context import share_commitment
from privacy.secagg.encoding import Randomness
from privacy.secagg.keys import Identity, PublicIdentity
from privacy.secagg.parameters import SumParameters
from privacy.secagg.sealing import Sealer
from privacy.secagg.shamir import is_share, split


@dataclass(frozen=True, slots=True)
class Dealt:
    """A secret that was dealt.

    Attributes:
        own_share: the dealer's own share, 33 bytes.
        sealed_shares: the others' shares, each readable by its receiver alone.
        commitments: 32 bytes for each party, the dealer included.
    """

    own_share: bytes = field(repr=False)
    sealed_shares: Mapping[int, bytes]
    commitments: Mapping[int, bytes]


class Dealer:
    """Deals the secrets of one party and receives the shares that the others dealt to it.

    Raises:
        ProtocolError: a sealing key of the roster cannot be used.
    """

    def __init__(
        self,
        index: int,
        parameters: SumParameters,
        identity: Identity,
        roster: Mapping[int, PublicIdentity],
        randomness: Randomness,
    ) -> None:
        self._index = index
        self._parameters = parameters
        self._randomness = randomness
        self._sealer = Sealer(
            index,
            session=parameters.session,
            identity=identity,
            roster=roster,
            randomness=randomness,
        )

    def deal(
        self, secret: bytes, *, purpose: bytes, round_number: int, parties: Collection[int]
    ) -> Dealt:
        """Splits a secret of 32 bytes among the parties, this one among them."""
        shares = split(
            secret,
            quorum=self._parameters.quorum,
            indices=sorted(parties),
            randomness=self._randomness,
        )
        return Dealt(
            own_share=shares[self._index],
            sealed_shares={
                other: self._sealer.seal(
                    share, purpose=purpose, round_number=round_number, receiver=other
                )
                for other, share in shares.items()
                if other != self._index
            },
            commitments={
                receiver: share_commitment(
                    share,
                    purpose=purpose,
                    session=self._parameters.session,
                    round_number=round_number,
                    dealer=self._index,
                    receiver=receiver,
                )
                for receiver, share in shares.items()
            },
        )

    def receive(
        self, sealed: bytes, commitment: bytes, *, purpose: bytes, round_number: int, sender: int
    ) -> bytes:
        """Returns the share that the sender dealt to this party.

        Raises:
            ShareRefused: it does not open, is none, or is not what its dealer committed to.
        """
        share = self._sealer.open(sealed, purpose=purpose, round_number=round_number, sender=sender)
        found = share_commitment(
            share,
            purpose=purpose,
            session=self._parameters.session,
            round_number=round_number,
            dealer=sender,
            receiver=self._index,
        )
        if not is_share(share) or found != commitment:
            raise ShareRefused(
                f"the share of the {purpose.decode()} that party {sender} dealt to party "
                f"{self._index} in round {round_number} is not the one it committed to"
            )
        return share
