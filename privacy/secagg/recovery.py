"""Rebuilding the secrets whose masks remain in a sum, from the shares that the survivors revealed.

    recovery = Recovery(parameters, round_number=7, reveals=reveals)
    seed = recovery.rebuild(dealer, SELF_MASK, share_commitments, is_right=...)
    recovery.faults

1. Take each revealed share that is the one its dealer committed to; note every other by revealer
   and dealer.
2. With a quorum of right ones, combine them (Shamir 1979). Lagrange's weights depend on the set of
   revealers alone and are computed once for each set, not for each secret.
3. Hold the result to the dealer's commitment or public key. If all shares were right but the result
   is not, the dealer shared another secret than it committed to: name it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from privacy.errors import ShareRefused
from privacy.secagg.context import share_commitment
from privacy.secagg.messages import Reveal
from privacy.secagg.parameters import SumParameters
from privacy.secagg.sealing import SELF_MASK
from privacy.secagg.shamir import combine, weights_at_zero


@dataclass(frozen=True, slots=True)
class ShareFault:
    """A share that could not be used; the sum was found without it.

    Attributes:
        revealer: the party that should have revealed it.
        dealer: the party whose secret it is of.
        reason: ``mismatch``: it is not what the dealer committed to, so the revealer changed it;
            ``missing``: the revealer left it out, since it was unusable when it came.
    """

    revealer: int
    dealer: int
    reason: Literal["mismatch", "missing"]


class Recovery:
    """The revealed shares of one round."""

    def __init__(
        self, parameters: SumParameters, *, round_number: int, reveals: Mapping[int, Reveal]
    ) -> None:
        self._parameters = parameters
        self._round_number = round_number
        self._reveals = reveals
        self._weights: dict[tuple[int, ...], dict[int, int]] = {}
        self._faults: list[ShareFault] = []

    @property
    def faults(self) -> tuple[ShareFault, ...]:
        """What was wrong with the shares of the secrets rebuilt so far."""
        return tuple(self._faults)

    def rebuild(
        self,
        dealer: int,
        purpose: bytes,
        commitments: Mapping[int, bytes],
        *,
        is_right: Callable[[bytes], bool],
    ) -> bytes:
        """Returns a party's secret.

        Args:
            dealer: the party.
            purpose: SELF_MASK or ROUND_KEY.
            commitments: the share commitments that the dealer signed.
            is_right: whether a secret is the one that the dealer has fixed.

        Raises:
            ShareRefused: fewer than the quorum of right shares, naming who revealed none, or the
                dealer shared another secret.
        """
        shares = self._right_shares(dealer, purpose, commitments)
        quorum = self._parameters.quorum
        kind = purpose.decode()
        if len(shares) < quorum:
            at_fault = sorted(set(self._reveals) - set(shares))
            raise ShareRefused(
                f"party {dealer}'s {kind}: {len(shares)} right shares were revealed, below the "
                f"quorum {quorum}; parties {at_fault} revealed none that it committed to"
            )
        chosen = tuple(sorted(shares)[:quorum])
        if chosen not in self._weights:
            self._weights[chosen] = weights_at_zero(chosen)
        try:
            secret = combine({i: shares[i] for i in chosen}, self._weights[chosen])
        except ShareRefused:
            secret = None
        if secret is None or not is_right(secret):
            raise ShareRefused(
                f"party {dealer} broke the rules: the shares of its {kind} that it committed to "
                f"do not give the {kind} that it committed to"
            )
        return secret

    def _right_shares(
        self, dealer: int, purpose: bytes, commitments: Mapping[int, bytes]
    ) -> dict[int, bytes]:
        """Returns the shares that are as they were dealt; notes the others."""
        right: dict[int, bytes] = {}
        for revealer, reveal in self._reveals.items():
            share = (reveal.shares if purpose == SELF_MASK else reveal.key_shares).get(dealer)
            if share is None:
                self._faults.append(ShareFault(revealer, dealer, "missing"))
            elif commitments[revealer] != share_commitment(
                share,
                purpose=purpose,
                session=self._parameters.session,
                round_number=self._round_number,
                dealer=dealer,
                receiver=revealer,
            ):
                self._faults.append(ShareFault(revealer, dealer, "mismatch"))
            else:
                right[revealer] = share
        return right
