"""What a party keeps of each round between two messages, in step with its journal.

rounds.advance(7, "uploaded", statement, Uploaded(context, cohort, own_share, key_shares))

A step is in the journal before what follows from it is kept or said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.errors import ProtocolError, RoundReused
from privacy.secagg.context import survivors_digest
from privacy.secagg.journal import Journal, Step
from privacy.secagg.messages import SurvivorView


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What is kept between enrolment and upload."""

    private_key: X25519PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What is kept between upload and reveal.

    Attributes:
        context: the round's, as this party computed it.
        cohort: the parties it masked for.
        own_share: of its own seed.
        key_shares: of the others' round keys, those that were usable.
        view: the survivors it has accepted, as they were shown; None before. It takes no others.
    """

    context: bytes
    cohort: frozenset[int]
    own_share: bytes = field(repr=False)
    key_shares: Mapping[int, bytes] = field(repr=False)
    view: SurvivorView | None = None


State: TypeAlias = Enrolled | Uploaded | None
"""None: the round is answered for, and all its secrets are gone."""


class Rounds:
    """The rounds of one party in one session."""

    def __init__(self, index: int, journal: Journal) -> None:
        self._index = index
        self._journal = journal
        self._states: dict[int, State] = {}

    def check_new(self, round_number: int) -> None:
        """Raises RoundReused when this party has answered in the round, here or elsewhere."""
        if round_number in self._states:
            raise RoundReused(f"party {self._index} has enrolled in round {round_number} before")
        steps = self._journal.recorded(round_number)
        if steps:
            raise RoundReused(
                f"party {self._index}: round {round_number} is in the journal "
                f"({', '.join(steps)}), but its secrets died with the process that answered; "
                f"it is not answered again"
            )

    def advance(self, round_number: int, step: Step, digest: bytes, state: State) -> None:
        """Records a step and then keeps what follows from it.

        Raises:
            RoundReused: the step is in the journal already.
        """
        self._journal.record(round_number, step, digest)
        self._states[round_number] = state

    def bind(self, round_number: int, uploaded: Uploaded, view: SurvivorView) -> None:
        """Accepts a set of survivors, for good.

        Raises:
            RoundReused: another set was accepted before.
        """
        survivors = set(view.vector_digests)
        if uploaded.view is not None and set(uploaded.view.vector_digests) != survivors:
            raise RoundReused(
                f"party {self._index} has accepted the survivors "
                f"{sorted(uploaded.view.vector_digests)} in round {round_number} and answers for "
                f"no second set ({sorted(survivors)})"
            )
        digest = survivors_digest(uploaded.context, survivors)
        self.advance(round_number, "survivors", digest, replace(uploaded, view=view))

    def enrolled(self, round_number: int) -> Enrolled:
        """Returns what is kept of a round that waits for its upload.

        Raises:
            RoundReused: this party has uploaded in it.
            ProtocolError: this party has not enrolled in it.
        """
        state = self._state(round_number)
        if not isinstance(state, Enrolled):
            raise RoundReused(f"party {self._index} has uploaded in round {round_number} before")
        return state

    def uploaded(self, round_number: int) -> Uploaded:
        """Returns what is kept of a round that waits for its reveal.

        Raises:
            RoundReused: this party has revealed in it.
            ProtocolError: this party has not uploaded in it.
        """
        state = self._state(round_number)
        if isinstance(state, Enrolled):
            raise ProtocolError(f"party {self._index} has not uploaded in round {round_number}")
        if state is None:
            raise RoundReused(f"party {self._index} has revealed in round {round_number} before")
        return state

    def _state(self, round_number: int) -> State:
        if round_number in self._states:
            return self._states[round_number]
        self.check_new(round_number)
        raise ProtocolError(f"party {self._index} has not enrolled in round {round_number}")
