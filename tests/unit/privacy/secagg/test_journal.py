"""A journal keeps a hospital to one answer a step, wherever its process dies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from privacy.errors import CertificateRefused, RoundReused
from privacy.secagg import MemoryJournal
from privacy.secagg.journal import STEPS, Step

ONE, OTHER = b"1" * 32, b"2" * 32


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_recorded_once(step: Step) -> None:
    journal = MemoryJournal()
    journal.record(7, step, ONE)
    with pytest.raises(RoundReused, match=f"round 7: the journal holds the step '{step}' already"):
        journal.record(7, step, OTHER)
    if step == "survivors":
        journal.record(7, step, ONE)
    else:
        with pytest.raises(RoundReused):
            journal.record(7, step, ONE)
    assert journal.recorded(7) == {step: ONE}
    journal.record(8, step, OTHER)
    assert (journal.recorded(8), journal.recorded(9)) == ({step: OTHER}, {})


class Killed(Exception):
    """The process dies here."""


class KilledJournal:
    """Dies at its k-th record, before or after it is written."""

    def __init__(self, *, at: int, after_writing: bool) -> None:
        self.kept = MemoryJournal()
        self.calls = 0
        self.at = at
        self.after_writing = after_writing

    def record(self, round_number: int, step: Step, digest: bytes) -> None:
        self.calls += 1
        if self.calls == self.at and not self.after_writing:
            raise Killed
        self.kept.record(round_number, step, digest)
        if self.calls == self.at:
            raise Killed

    def recorded(self, round_number: int) -> Mapping[Step, bytes]:
        return self.kept.recorded(round_number)


class Hospital:
    """Party 1 of an honest round of five, with all that it ever answered."""

    def __init__(self, make_session: Callable[..., Any], journal: Any) -> None:
        self.session = make_session(5, quorum=4)
        self.session.journals[1] = journal
        self.session.restart(1)
        self.answers: list[tuple[str, Any]] = []
        self.views: dict[str, Any] = {}
        self.cohort: dict[int, Any] = {}

    def answer(self, kind: str) -> None:
        """Takes one step; what it answers is out once it returns."""
        session, party = self.session, self.session.hospitals[1]
        if kind == "enrol":
            self.answers.append((kind, party.enrol(1)))
        elif kind == "upload":
            self.answers.append((kind, session.upload(1, self.views["cohort"])))
        elif kind == "echo":
            self.answers.append((kind, party.echo(1, self.views["survivors"])))
        else:
            self.answers.append((kind, party.reveal(1, self.views["survivors"])))

    def prepare(self, kind: str) -> None:
        """The coordinator's honest answer to the step before."""
        session = self.session
        if kind == "upload":
            enrolments = [session.hospitals[i].enrol(1) for i in (2, 3, 4, 5)]
            self.cohort = session.coordinator.begin(
                1, enrolments=[*enrolments, self.answers[-1][1]], model_hash=bytes(range(32))
            )
            self.views["cohort"] = self.cohort[1]
        elif kind == "echo":
            session.coordinator.add(self.answers[-1][1])
            for index in (2, 3, 4, 5):
                session.coordinator.add(session.upload(index, self.cohort[index]))
            self.views["survivors"] = session.coordinator.close()[1]

    def take_part(self) -> None:
        for kind in ("enrol", "upload", "echo", "reveal"):
            self.prepare(kind)
            self.answer(kind)


def attempts(hospital: Hospital) -> list[Callable[[], object]]:
    """All that a coordinator may ask of a restarted hospital in the same round."""
    session = hospital.session
    party = session.hospitals[1]
    asked: list[Callable[[], object]] = [lambda: party.enrol(1)]
    if "cohort" in hospital.views:
        asked.append(lambda: session.upload(1, hospital.views["cohort"]))
    if "survivors" in hospital.views:
        view = hospital.views["survivors"]
        asked += [
            lambda: party.echo(1, view),
            lambda: party.echo(1, session.dropping(view, 5)),
            lambda: party.reveal(1, view),
            lambda: party.reveal(1, session.dropping(view, 5)),
        ]
    return asked


RECORDS = 5  # enrolled, uploaded, survivors at the echo, survivors and revealed at the reveal


@pytest.mark.parametrize("after_writing", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, RECORDS + 1))
def test_killed_at_every_record_it_never_answers_a_second_time(
    make_session: Any, at: int, after_writing: bool
) -> None:
    journal = KilledJournal(at=at, after_writing=after_writing)
    hospital = Hospital(make_session, journal)
    with pytest.raises(Killed):
        hospital.take_part()
    assert len(hospital.answers) == min(at - 1, 3)

    hospital.session.restart(1)
    nothing_recorded = at == 1 and not after_writing
    for asked in attempts(hospital):
        if nothing_recorded:
            asked()  # nothing was said before the first record: the round is new to it
        else:
            with pytest.raises(RoundReused, match=r"died with the process|in round 1 before"):
                asked()


@pytest.mark.parametrize("after_writing", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, RECORDS + 1))
def test_a_failed_write_in_a_process_that_lives_on_lets_no_other_answer_out(
    make_session: Any, at: int, after_writing: bool
) -> None:
    """A disk that fails: the same step may be taken if nothing was written, another one never."""
    hospital = Hospital(make_session, KilledJournal(at=at, after_writing=after_writing))
    with pytest.raises(Killed):
        hospital.take_part()
    kind = ("enrol", "upload", "echo", "reveal", "reveal")[at - 1]
    if after_writing and at in (1, 2, 5):
        with pytest.raises(RoundReused):
            hospital.answer(kind)
    else:
        hospital.answer(kind)
    if at >= 3 and (at > 3 or after_writing):
        party = hospital.session.hospitals[1]
        with pytest.raises((RoundReused, CertificateRefused)):
            party.reveal(1, hospital.session.dropping(hospital.views["survivors"], 5))
        with pytest.raises(RoundReused):
            party.echo(1, hospital.session.dropping(hospital.views["survivors"], 5))


def test_the_round_that_died_says_how_far_it_had_come(make_session: Any) -> None:
    session = make_session(3)
    session.uploads(session.begin())
    session.restart(2)
    with pytest.raises(
        RoundReused,
        match=r"party 2: round 1 is in the journal \(enrolled, uploaded\), but its secrets died",
    ):
        session.hospitals[2].enrol(1)
    assert session.hospitals[2].enrol(2).index == 2


def test_two_processes_on_one_journal_answer_once(make_session: Any) -> None:
    session = make_session(3)
    first = session.hospitals[1]
    session.restart(1)
    second = session.hospitals[1]
    first.enrol(1)
    with pytest.raises(RoundReused, match=r"in the journal \(enrolled\)"):
        second.enrol(1)


def test_a_restarted_hospital_takes_part_in_the_next_round(make_session: Any) -> None:
    session = make_session(3)
    session.begin(1)
    session.restart(1)
    result = session.run(np.zeros((3, 10), np.float32), [1] * 3, [[1, 0]] * 3, 2)
    assert result.weight == 3
