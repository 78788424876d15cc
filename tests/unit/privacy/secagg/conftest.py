"""A session of a secure sum whose keys, seeds and rounding come from a seeded generator."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privacy.secagg import (
    Certificate,
    CohortView,
    Enrolment,
    Identity,
    Journal,
    MemoryJournal,
    Participant,
    PublicIdentity,
    Reveal,
    SecureSum,
    SumParameters,
    SumResult,
    SurvivorView,
    Upload,
    least_quorum,
)

MODEL_HASH = bytes(range(32))


@dataclass
class Session:
    parameters: SumParameters
    identities: dict[int, Identity]
    roster: dict[int, PublicIdentity]
    hospitals: dict[int, Participant]
    coordinator: SecureSum
    journals: dict[int, Journal]
    generator: np.random.Generator
    captured: list[Any] = field(default_factory=list)

    def begin(self, round_number: int = 1) -> dict[int, CohortView]:
        enrolments = [h.enrol(round_number) for h in self.hospitals.values()]
        self.captured += enrolments
        return self.coordinator.begin(round_number, enrolments=enrolments, model_hash=MODEL_HASH)

    def upload(
        self, index: int, view: CohortView, *, round_number: int = 1, **changes: Any
    ) -> Upload:
        inputs: dict[str, Any] = {
            "model_hash": MODEL_HASH,
            "vector": np.zeros(self.parameters.dimension, np.float32),
            "weight": 1,
            "counts": np.zeros(self.parameters.counters, np.int64),
        } | changes
        return self.hospitals[index].upload(round_number, view, **inputs)

    def uploads(self, views: dict[int, CohortView]) -> dict[int, Upload]:
        return {index: self.upload(index, view) for index, view in views.items()}

    def closed_without(self, *lost: int) -> dict[int, SurvivorView]:
        """Round 1 up to the survivors, of whom some are lost before their upload."""
        views = self.begin()
        for index, view in views.items():
            if index not in lost:
                self.coordinator.add(self.upload(index, view))
        return self.coordinator.close()

    def certificate(self, views: dict[int, SurvivorView]) -> Certificate | None:
        """The echoes of all survivors, if they are needed."""
        if not self.coordinator.needs_echo:
            return None
        for index, view in views.items():
            self.coordinator.add_echo(self.hospitals[index].echo(1, view))
        return self.coordinator.certificate()

    def to_reveals(self, *lost: int) -> list[Reveal]:
        """Round 1 up to the reveals, all honest."""
        views = self.closed_without(*lost)
        certificate = self.certificate(views)
        return [self.hospitals[i].reveal(1, view, certificate) for i, view in views.items()]

    @staticmethod
    def dropping(view: SurvivorView, *indices: int) -> SurvivorView:
        """The view as if the coordinator had not got the uploads of these parties."""

        def rest(values: Mapping[int, Any]) -> dict[int, Any]:
            return {key: value for key, value in values.items() if key not in indices}

        return replace(
            view,
            vector_digests=rest(view.vector_digests),
            commitments=rest(view.commitments),
            share_commitments=rest(view.share_commitments),
            signatures=rest(view.signatures),
            sealed_shares=rest(view.sealed_shares),
            dropped=tuple(sorted({*view.dropped, *indices})),
        )

    def restart(self, index: int) -> None:
        """A party's process ends; another begins on the same journal."""
        self.hospitals[index] = Participant(
            index,
            self.parameters,
            self.identities[index],
            self.roster,
            journal=self.journals[index],
            randomness=self.generator.bytes,
        )

    def run(
        self,
        vectors: Sequence[Any],
        weights: Sequence[int],
        counts: Sequence[Any],
        round_number: int = 1,
    ) -> SumResult:
        for index, view in self.begin(round_number).items():
            upload = self.upload(
                index,
                view,
                round_number=round_number,
                vector=vectors[index - 1],
                weight=weights[index - 1],
                counts=counts[index - 1],
            )
            self.captured.append(upload)
            self.coordinator.add(upload)
        views = self.coordinator.close()
        reveals = [self.hospitals[i].reveal(round_number, view) for i, view in views.items()]
        self.captured += reveals
        return self.coordinator.finish(reveals)


def make_session(
    parties: int = 3, *, seed: int = 0, journals: dict[int, Journal] | None = None, **values: Any
) -> Session:
    generator = np.random.default_rng(seed)
    values = {"dimension": 10, "counters": 2, "quorum": least_quorum(parties)} | values
    parameters = SumParameters(
        session=generator.bytes(16), roster=tuple(range(1, parties + 1)), **values
    )
    identities = {index: Identity.generate(generator.bytes) for index in parameters.roster}
    roster = {index: identity.public for index, identity in identities.items()}
    if journals is None:
        journals = {index: MemoryJournal() for index in parameters.roster}
    coordinator = SecureSum(parameters, roster)
    session = Session(parameters, identities, roster, {}, coordinator, journals, generator)
    for index in parameters.roster:
        session.restart(index)
    return session


@pytest.fixture(name="make_session", scope="session")
def make_session_fixture() -> Callable[..., Session]:
    return make_session


@pytest.fixture
def session() -> Session:
    return make_session()


@pytest.fixture
def five() -> Session:
    """Five parties, of which four suffice."""
    return make_session(5, quorum=4)


@pytest.fixture
def enrolments(session: Session) -> list[Enrolment]:
    return [hospital.enrol(1) for hospital in session.hospitals.values()]


@pytest.fixture(scope="package")
def vectors() -> dict[str, list[dict[str, Any]]]:
    loaded: dict[str, list[dict[str, Any]]] = json.loads(
        (Path(__file__).parent / "vectors.json").read_text()
    )
    return loaded
