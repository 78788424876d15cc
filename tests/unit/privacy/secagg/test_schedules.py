"""Random schedules of losses, restarts, repeats and lies: the sum is exact, or there is none.

A coordinator that may lie about who survived drives honest hospitals in any order. Whatever it
does, every sum it reads is the sum over the survivors it names, and what it was told keeps the
rules on which confidentiality rests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from privacy.errors import CohortRefused, ProtocolError
from privacy.secagg import Certificate

MODEL_HASH = bytes(range(32))
PARTIES = 6
QUORUM = 4
DIMENSION = 6

party = st.integers(1, PARTIES)
lies = st.none() | party


class Schedules(RuleBasedStateMachine):
    """One session; the coordinator goes on to the next round whenever it likes."""

    make_session: Callable[..., Any]

    def __init__(self) -> None:
        super().__init__()
        self.session = type(self).make_session(
            PARTIES, quorum=QUORUM, dimension=DIMENSION, bits=12, clip=2047.0, counters=1
        )
        generator = np.random.default_rng(1)
        self.vectors = generator.integers(-99, 100, (PARTIES, DIMENSION)).astype(np.float32)
        self.number = 0
        # What the coordinator was told, by round and then by party.
        self.uploads: dict[int, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
        self.accepted: dict[int, dict[int, set[tuple[int, ...]]]] = defaultdict(
            lambda: defaultdict(set)
        )
        self.revealed: dict[int, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
        self.clear()

    def clear(self) -> None:
        self.enrolments: dict[int, Any] = {}
        self.cohort: dict[int, Any] = {}
        self.survivors: dict[int, Any] = {}
        self.echoes: dict[tuple[int, ...], dict[int, bytes]] = defaultdict(dict)

    @rule()
    def next_round(self) -> None:
        self.number += 1
        self.clear()

    @rule(index=party)
    def restart(self, index: int) -> None:
        self.session.restart(index)

    @precondition(lambda self: self.number)
    @rule(index=party)
    def enrol(self, index: int) -> None:
        try:
            enrolment = self.session.hospitals[index].enrol(self.number)
        except ProtocolError:
            return
        assert index not in self.enrolments
        self.enrolments[index] = enrolment

    @precondition(lambda self: self.number and not self.cohort)
    @rule()
    def begin(self) -> None:
        try:
            self.cohort = self.session.coordinator.begin(
                self.number, enrolments=self.enrolments.values(), model_hash=MODEL_HASH
            )
        except ProtocolError:
            assert len(self.enrolments) < QUORUM

    @precondition(lambda self: self.cohort)
    @rule(index=party, model=st.sampled_from([MODEL_HASH] * 4 + [b"\0" * 32]))
    def upload(self, index: int, model: bytes) -> None:
        if index not in self.cohort:
            return
        try:
            upload = self.session.upload(
                index,
                self.cohort[index],
                round_number=self.number,
                model_hash=model,
                vector=self.vectors[index - 1],
                counts=[index],
            )
        except ProtocolError:
            return
        self.uploads[self.number][index].append(upload)

    @precondition(lambda self: self.cohort)
    @rule(index=party)
    def deliver(self, index: int) -> None:
        """An upload arrives: late, out of order, or for the second time."""
        for upload in self.uploads[self.number][index]:
            before = self.session.coordinator._round
            total = before.total.copy() if before else None
            try:
                self.session.coordinator.add(upload)
            except ProtocolError:
                after = self.session.coordinator._round
                assert after is None or np.array_equal(after.total, total)

    @precondition(lambda self: self.cohort and not self.survivors)
    @rule()
    def close(self) -> None:
        try:
            self.survivors = self.session.coordinator.close()
        except ProtocolError:
            assert len(self.cohort) - len(self.session.coordinator.missing()) < QUORUM

    def view_for(self, index: int, lie: int | None) -> Any:
        view = self.survivors.get(index)
        return view if view is None or lie is None else self.session.dropping(view, lie)

    @precondition(lambda self: self.survivors)
    @rule(index=party, lie=lies)
    def echo(self, index: int, lie: int | None) -> None:
        view = self.view_for(index, lie)
        if view is None:
            return
        try:
            echo = self.session.hospitals[index].echo(self.number, view)
        except ProtocolError:
            return
        self.accepted[self.number][index].add(echo.survivors)
        assert len(echo.survivors) >= QUORUM
        self.echoes[echo.survivors][index] = echo.signature

    @precondition(lambda self: self.survivors)
    @rule(index=party, lie=lies)
    def reveal(self, index: int, lie: int | None) -> None:
        view = self.view_for(index, lie)
        if view is None:
            return
        claimed = tuple(sorted(view.vector_digests))
        certificate = Certificate(self.number, claimed, dict(self.echoes[claimed]))
        try:
            reveal = self.session.hospitals[index].reveal(self.number, view, certificate)
        except ProtocolError:
            return
        assert len(claimed) >= QUORUM
        assert claimed == tuple(self.cohort) or len(certificate.signatures) >= QUORUM
        self.accepted[self.number][index].add(claimed)
        self.revealed[self.number][index].append(reveal)

    @precondition(lambda self: self.survivors and self.revealed[self.number])
    @rule()
    def finish(self) -> None:
        """From honest reveals for the survivors a quorum gives the sum, and fewer give none."""
        tally = self.session.coordinator._round
        if tally is None:
            return
        survivors = tally.survivors
        reveals = [
            reveal
            for index, answers in self.revealed[self.number].items()
            for reveal in answers
            if survivors in self.accepted[self.number][index]
        ]
        if len(reveals) < QUORUM:
            with pytest.raises(CohortRefused, match="below the quorum"):
                self.session.coordinator.finish(reveals)
            return
        result = self.session.coordinator.finish(reveals)
        assert result.parties == survivors
        assert result.weight == len(survivors)
        assert result.counts.tolist() == [sum(survivors)]
        rows = [index - 1 for index in survivors]
        mean = self.vectors[rows].astype(np.float64).sum(0) / len(rows)
        assert np.array_equal(result.mean, mean.astype(np.float32))

    @rule(lost=lies)
    def go_to_survivors(self, lost: int | None) -> None:
        """Random steps alone rarely come so far."""
        self.next_round()
        for index in range(1, PARTIES + 1):
            self.enrol(index)
        self.begin()
        for index in range(1, PARTIES + 1):
            if index != lost:
                self.upload(index, MODEL_HASH)
                self.deliver(index)
        self.close()

    @precondition(lambda self: self.survivors)
    @rule(but=party)
    def go_to_reveals(self, but: int) -> None:
        """The honest rest of a round, but for one party."""
        for index in self.survivors:
            if index != but:
                self.echo(index, None)
        for index in self.survivors:
            if index != but:
                self.reveal(index, None)
        self.finish()

    @invariant()
    def each_party_uploads_once_and_answers_for_one_set(self) -> None:
        for by_party in self.uploads.values():
            assert all(len(uploads) <= 1 for uploads in by_party.values())
        for sets in self.accepted.values():
            assert all(len(accepted) <= 1 for accepted in sets.values())
        for answers in self.revealed.values():
            assert all(len(reveals) <= 1 for reveals in answers.values())

    @invariant()
    def no_quorum_of_shares_of_both_kinds(self) -> None:
        for by_party in self.revealed.values():
            seeds: dict[int, int] = defaultdict(int)
            keys: dict[int, int] = defaultdict(int)
            for reveals in by_party.values():
                for reveal in reveals:
                    assert not set(reveal.shares) & set(reveal.key_shares)
                    for dealer in reveal.shares:
                        seeds[dealer] += 1
                    for dealer in reveal.key_shares:
                        keys[dealer] += 1
            for dealer in range(1, PARTIES + 1):
                assert seeds[dealer] < QUORUM or keys[dealer] < QUORUM

    @invariant()
    def no_two_sets_reach_a_quorum(self) -> None:
        for sets in self.accepted.values():
            support: dict[tuple[int, ...], int] = defaultdict(int)
            for accepted in sets.values():
                for survivors in accepted:
                    support[survivors] += 1
            assert sum(count >= QUORUM for count in support.values()) <= 1


@pytest.fixture
def machine(make_session: Any) -> type[Schedules]:
    Schedules.make_session = staticmethod(make_session)
    return Schedules


def test_no_schedule_gives_a_wrong_sum_or_too_many_shares(machine: type[Schedules]) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            deadline=None,
            max_examples=60,
            stateful_step_count=40,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
