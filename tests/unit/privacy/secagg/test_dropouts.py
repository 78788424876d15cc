"""Who is lost when: the sum over the survivors is exact, or the round is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from privacy.errors import CertificateRefused, CohortRefused

DIMENSION = 50
MODEL_HASH = bytes(range(32))


@dataclass(frozen=True)
class Losses:
    """How many parties are lost before each message; the last of the roster first."""

    enrolment: int = 0
    upload: int = 0
    echo: int = 0
    reveal: int = 0


SCHEDULES = {
    "nobody": Losses(),
    "before enrolment": Losses(enrolment=1),
    "before upload": Losses(upload=1),
    "before echo": Losses(upload=1, echo=1),
    "before reveal, nobody before": Losses(reveal=1),
    "before reveal, after an upload": Losses(upload=1, reveal=1),
    "one at each": Losses(1, 1, 1, 1),
    "three before upload": Losses(upload=3),
    "many at each": Losses(2, 3, 2, 2),
}
PARTIES = (3, 4, 5, 10, 30)
# A hundred parties take seconds: two schedules are enough.
ROWS = [
    *((case, parties) for case in SCHEDULES for parties in PARTIES),
    *((case, 100) for case in ("before upload", "many at each")),
]


def quorum_of(parties: int) -> int:
    return max(3, 2 * parties // 3 + 1)


def expectation(parties: int, losses: Losses) -> type[Exception] | None:
    """By the rules: which losses a round of so many parties survives."""
    quorum = quorum_of(parties)
    cohort = parties - losses.enrolment
    survivors = cohort - losses.upload
    if cohort < quorum or survivors < quorum:
        return CohortRefused
    if losses.upload and survivors - losses.echo < quorum:
        return CertificateRefused
    late = survivors - losses.reveal - (losses.echo if losses.upload else 0)
    return None if late >= quorum else CohortRefused


class Attempt:
    """A round in which parties are lost, and what was revealed in it."""

    def __init__(self, session: Any, losses: Losses, vectors: Any) -> None:
        self.session = session
        self.losses = losses
        self.vectors = vectors
        self.alive = list(session.parameters.roster)
        self.reveals: list[Any] = []

    def lose(self, count: int) -> None:
        self.alive = self.alive[: len(self.alive) - count]

    def run(self) -> Any:
        session, coordinator = self.session, self.session.coordinator
        self.lose(self.losses.enrolment)
        enrolments = [session.hospitals[i].enrol(1) for i in self.alive]
        views = coordinator.begin(1, enrolments=enrolments, model_hash=MODEL_HASH)
        self.lose(self.losses.upload)
        for index in reversed(self.alive):
            upload = session.upload(
                index, views[index], vector=self.vectors[index - 1], counts=[index, 1]
            )
            coordinator.add(upload)
        views = coordinator.close()
        certificate = None
        if coordinator.needs_echo:
            self.lose(self.losses.echo)
            for index in self.alive:
                coordinator.add_echo(session.hospitals[index].echo(1, views[index]))
            certificate = coordinator.certificate()
        self.lose(self.losses.reveal)
        self.reveals = [session.hospitals[i].reveal(1, views[i], certificate) for i in self.alive]
        return coordinator.finish(self.reveals)


def whole_steps(session: Any, parties: int) -> Any:
    """Vectors of whole quantisation steps, of which the sum is known to the last bit."""
    assert session.parameters.step == 1.0
    generator = np.random.default_rng(parties)
    return generator.integers(-2047, 2048, (parties, DIMENSION)).astype(np.float32)


@pytest.mark.parametrize(("case", "parties"), ROWS)
def test_a_loss(make_session: Any, case: str, parties: int) -> None:
    losses = SCHEDULES[case]
    session = make_session(
        parties, quorum=quorum_of(parties), dimension=DIMENSION, bits=12, clip=2047.0
    )
    vectors = whole_steps(session, parties)
    attempt = Attempt(session, losses, vectors)
    error = expectation(parties, losses)
    if error is not None:
        with pytest.raises(error, match=r"below the (quorum|least cohort)"):
            attempt.run()
        # Fewer than a quorum ever revealed, so the coordinator holds nothing it can unmask with.
        assert len(attempt.reveals) < session.parameters.quorum
        return
    result = attempt.run()
    survivors = range(1, parties + 1 - losses.enrolment - losses.upload)
    assert result.parties == tuple(survivors)
    assert result.faults == ()
    assert result.weight == len(survivors)
    assert result.counts.tolist() == [sum(survivors), len(survivors)]
    total = vectors[: len(survivors)].astype(np.float64).sum(0)
    assert np.array_equal(result.mean, (total / len(survivors)).astype(np.float32))


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_three_hospitals_survive_no_loss(make_session: Any, lost: int) -> None:
    """A sum of two shows each of them the other."""
    session = make_session(3)
    with pytest.raises(CohortRefused, match=rf"no upload of parties \[{lost}\] arrived"):
        session.closed_without(lost)


def test_any_party_of_the_cohort_may_be_the_one_that_is_lost(make_session: Any) -> None:
    for lost in range(1, 6):
        session = make_session(5, quorum=4, seed=lost)
        result = session.coordinator.finish(session.to_reveals(lost))
        assert result.parties == tuple(index for index in range(1, 6) if index != lost)
        assert result.mean.tolist() == [0.0] * 10
