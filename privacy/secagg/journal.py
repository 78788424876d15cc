"""What a party has answered in which round, so that it never answers twice.

    journal.record(7, "uploaded", digest)      # on disk before it returns; twice is refused

A party whose process died has lost the round's secrets, but the coordinator may hold what it sent.
A second answer under the same round would give away the difference of the two. So every answer is
recorded before it is given, and a round found in the journal is never answered again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol, TypeAlias, get_args

from privacy.errors import RoundReused

Step: TypeAlias = Literal["enrolled", "uploaded", "survivors", "revealed"]
STEPS: Final[tuple[Step, ...]] = get_args(Step)
"""The steps of a round in their order; ``survivors`` binds a party to one set of survivors."""


class Journal(Protocol):
    """The steps that one party has taken in the rounds of one session.

    A hospital uses a durable one that all its processes share: what it has answered must not depend
    on whether its machine stays up.
    """

    def record(self, round_number: int, step: Step, digest: bytes) -> None:
        """Writes a step; it is durable before this returns.

        Args:
            round_number: the round.
            step: what the party is about to answer.
            digest: 32 bytes that fix the answer.

        Raises:
            RoundReused: the step is there already. Only ``survivors`` with the same digest may be
                recorded again: a party may say twice that it has accepted the same set.
        """

    def recorded(self, round_number: int) -> Mapping[Step, bytes]:
        """Returns the digests of the steps taken in a round; empty for an unknown round."""


class MemoryJournal:
    """A journal that dies with its process: for tests and simulations alone.

    A hospital must use a durable one (``tasks.hospital.journal``).
    """

    def __init__(self) -> None:
        self._rounds: dict[int, dict[Step, bytes]] = {}

    def record(self, round_number: int, step: Step, digest: bytes) -> None:
        """Writes a step; RoundReused when it is there already."""
        steps = self._rounds.setdefault(round_number, {})
        if step in steps and not (step == "survivors" and steps[step] == digest):
            raise RoundReused(f"round {round_number}: the journal holds the step {step!r} already")
        steps[step] = digest

    def recorded(self, round_number: int) -> Mapping[Step, bytes]:
        """Returns the digests of the steps taken in a round."""
        return dict(self._rounds.get(round_number, {}))
