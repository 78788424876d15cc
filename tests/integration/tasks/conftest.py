"""A training of three hospitals on a real PostgreSQL, stepped by the coordinator's own clock.

The hospitals are real parties of the secure sum and speak through the exchange's own rules
(``api.exchange``). Whenever the coordinator looks at its clock, the next hospital that can take a
step takes it; when none can, the round's deadline passes. So a round needs no thread and no sleep,
and every message arrives alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from api.exchange import FromHospital, ToHospital, accept, fetch, read_message
from db.blobs import BlobStore
from db.models import Base, RoundKind
from db.queries import hospitals, models, rounds, trainings
from db.session import transaction
from fl.messages import (
    decode_certificate,
    decode_cohort,
    decode_survivors,
    encode_echo,
    encode_enrolment,
    encode_reveal,
    encode_upload,
)
from fl.secure_round import COUNTERS, PUBLIC_WEIGHT, identities, sum_parameters
from fl.spec import ModelSpec
from fl.strategy_spec import FedAvg, StrategySpec
from fl.weights import encode_weights, layout
from privacy.plan import PrivacyPlan
from privacy.secagg import Identity, MemoryJournal, Participant, context
from tasks.cohort import OpenedRound, open_round
from tasks.coordinator import Coordinator
from tasks.gather import GatheredSum, gather_masked_updates

HOSPITALS: Final = ("east", "north", "west")
STARTED: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

SPEC: Final = ModelSpec.model_validate(
    {
        "name": "breast-cancer",
        "architecture": {"kind": "mlp", "hidden": [4]},
        "contract": {
            "columns": [{"name": "radius", "minimum": 0, "maximum": 30}],
            "label": {"name": "malignant"},
        },
    }
)
PLAN: Final = PrivacyPlan(
    clip_norm=0.5,
    noise_multiplier=1.0,
    sampling_rate=0.2,
    expected_batch_size=32,
    evaluation_noise_multiplier=4.0,
    steps_per_round=5,
    rounds=2,
    delta=1e-5,
)
FED_AVG: Final = FedAvg()

Kind = FromHospital


class WatchedBlobs(BlobStore):
    """A blob store that remembers what was read from it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.read: list[bytes] = []

    def get(self, digest: str) -> bytes:
        data = super().get(digest)
        self.read.append(data)
        return data


@dataclass
class Hospital:
    """A hospital that answers as soon as it can.

    ``answers`` replaces what it sends of a kind: a function of the honest message, None for
    silence. ``refuses`` gives the refusal that it sends in place of that kind.
    """

    hospital_id: str
    update: NDArray[np.float32]
    counts: NDArray[np.int64]
    identity: Identity = field(default_factory=Identity.generate)
    answers: dict[str, Callable[[Any], bytes] | None] = field(default_factory=dict)
    refuses: dict[str, bytes] = field(default_factory=dict)


class Sent(NamedTuple):
    """A message that a hospital has sent to the coordinator."""

    hospital_id: str
    kind: Kind
    body: bytes


class Consortium:
    """The hospitals, their training and the coordinator that gathers from them."""

    def __init__(self, engine: Engine, url: str, *, dimension: int) -> None:
        self.engine = engine
        self.exchange_blobs = BlobStore(url)
        self.blobs = WatchedBlobs(url)
        self.now = 0.0
        self.coordinator = Coordinator(
            engine, self.blobs, now=lambda: STARTED + timedelta(seconds=self.now)
        )
        self.weights = {"w": np.zeros(dimension, np.float32)}
        self.hospitals: dict[str, Hospital] = {}
        self.sent: list[Sent] = []
        self._parts: deque[Iterator[bool]] = deque()
        self._opened: OpenedRound | None = None
        with transaction(engine) as session:
            models.add_model(session, name=SPEC.name, spec=SPEC.model_dump(mode="json"))

    # What is there before a round.

    def add_hospital(self, hospital_id: str, *, with_keys: bool = True) -> Hospital:
        generator = np.random.default_rng(len(self.hospitals))
        hospital = Hospital(
            hospital_id,
            update=generator.normal(0, 0.05, self.weights["w"].size).astype(np.float32),
            counts=generator.integers(0, 100, COUNTERS),
        )
        public = hospital.identity.public
        with transaction(self.engine) as session:
            hospitals.add_hospital(session, hospital_id=hospital_id, name=hospital_id.title())
            if with_keys:
                hospitals.publish_identity(
                    session,
                    hospital_id=hospital_id,
                    signing_key=public.signing_key.hex(),
                    sealing_key=public.sealing_key.hex(),
                )
        self.hospitals[hospital_id] = hospital
        return hospital

    def add_training(
        self,
        *,
        strategy: StrategySpec = FED_AVG,
        prepared: bool = True,
        flow_run_id: str | None = None,
    ) -> UUID:
        with transaction(self.engine) as session:
            training = trainings.add_training(
                session,
                model_id=models.get_model(session, name=SPEC.name).id,
                rounds=PLAN.rounds,
                strategy=strategy.model_dump(mode="json"),
                plan=PLAN.model_dump(mode="json"),
                epsilon=8.0,
                delta=PLAN.delta,
                least_cohort=3,
                round_deadline_s=60.0,
                requested_by="ada",
            )
            if prepared:
                trainings.start_training(
                    session,
                    training_id=training.id,
                    weights=self.blobs.put(encode_weights(self.weights)),
                    mlflow_run_id="run-1",
                    flow_run_id=flow_run_id,
                )
            return training.id

    # A round.

    def open(self, training_id: UUID | None = None, *, kind: RoundKind = "training") -> OpenedRound:
        training_id = training_id or self.add_training()
        opened = open_round.fn(self.coordinator, training_id, kind=kind, flow_run_id="flow-1")
        self._opened = opened
        self._parts = deque(self._take_part(self.hospitals[h], opened) for h in opened.hospital_ids)
        return opened

    def gather(self, opened: OpenedRound) -> GatheredSum:
        return gather_masked_updates.fn(self.coordinator, opened, clock=self.clock)

    def clock(self) -> float:
        """The coordinator's clock: the next hospital takes a step, or a second passes."""
        assert self._opened is not None
        for _ in range(len(self._parts)):
            part = self._parts[0]
            self._parts.rotate(-1)
            if next(part, False):
                return self.now
        self.now += 1.0
        return self.now

    def post(self, hospital_id: str, kind: Kind, body: bytes) -> None:
        """Hands a message in as the API does."""
        assert self._opened is not None
        with self.exchange_blobs.incoming() as blob:
            blob.write(body)
            message = read_message(
                round_id=self._opened.round_id,
                hospital_id=hospital_id,
                subject=f"hospital:{hospital_id}",
                kind=kind,
                body=blob,
                announced_digest=None,
            )
            with transaction(self.engine) as session:
                accept(session, message, now=self.coordinator.now())
        self.sent.append(Sent(hospital_id, kind, body))

    def fetch(self, hospital_id: str, kind: ToHospital) -> bytes | None:
        assert self._opened is not None
        with transaction(self.engine) as session:
            return fetch(
                session,
                self.exchange_blobs,
                round_id=self._opened.round_id,
                hospital_id=hospital_id,
                kind=kind,
            )

    def _take_part(self, hospital: Hospital, opened: OpenedRound) -> Iterator[bool]:
        """A hospital's part of a round: yields True when it has sent, False while it waits."""
        invitation, hospital_id = opened.invitation, hospital.hospital_id
        parameters = sum_parameters(invitation, parameters=layout(opened.state.weights).size)
        participant = Participant(
            invitation.index_of(hospital_id),
            parameters,
            hospital.identity,
            identities(invitation),
            journal=MemoryJournal(),
        )
        number = invitation.number
        if not self._send(hospital, "enrolment", participant.enrol(number), encode_enrolment):
            return
        yield True
        while (cohort := self.fetch(hospital_id, "cohort")) is None:
            yield False
        upload = participant.upload(
            number,
            decode_cohort(cohort),
            model_hash=bytes.fromhex(invitation.weights),
            vector=hospital.update[: parameters.dimension],
            weight=PUBLIC_WEIGHT,
            counts=hospital.counts,
        )
        if not self._send(hospital, "upload", upload, encode_upload):
            return
        yield True
        while (survivors := self.fetch(hospital_id, "survivors")) is None:
            yield False
        view, certificate = decode_survivors(survivors), None
        if view.dropped:
            if not self._send(hospital, "echo", participant.echo(number, view), encode_echo):
                return
            yield True
            while (body := self.fetch(hospital_id, "certificate")) is None:
                yield False
            certificate = decode_certificate(body)
        reveal = participant.reveal(number, view, certificate)
        if self._send(hospital, "reveal", reveal, encode_reveal):
            yield True

    def _send(
        self, hospital: Hospital, kind: Kind, message: Any, encode: Callable[[Any], bytes]
    ) -> bool:
        """Sends a message, or what the test has put in its place; False for silence."""
        if kind in hospital.refuses:
            self.post(hospital.hospital_id, "refusal", hospital.refuses[kind])
            return True
        answer = hospital.answers.get(kind, encode)
        if answer is None:
            return False
        self.post(hospital.hospital_id, kind, answer(message))
        return True

    def fail(self, opened: OpenedRound) -> None:
        with transaction(self.engine) as session:
            rounds.close_round(
                session, round_id=opened.round_id, state="failed", reason="x", now=STARTED
            )

    def contents(self) -> Mapping[str, list[dict[str, Any]]]:
        """All rows of the coordinator's database, by table."""
        with self.engine.connect() as connection:
            return {
                name: [dict(row) for row in connection.execute(select(table)).mappings()]
                for name, table in Base.metadata.tables.items()
            }


@pytest.fixture
def make_consortium(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Consortium]:
    """Makes a consortium of three hospitals; ``dimension`` is the number of weights."""
    # Hospitals answer when the coordinator looks at its clock, not while it listens.
    monkeypatch.setattr("tasks.mailbox._LISTEN_S", 0.001)

    def make(*, dimension: int = 40, hospital_ids: tuple[str, ...] = HOSPITALS) -> Consortium:
        made = Consortium(engine, str(tmp_path / "blobs"), dimension=dimension)
        for hospital_id in hospital_ids:
            made.add_hospital(hospital_id)
        return made

    return make


@pytest.fixture
def consortium(make_consortium: Callable[..., Consortium]) -> Consortium:
    return make_consortium()


@pytest.fixture
def second_signs_a_wrong_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second party signs and sends another share of the first one's seed than it holds."""
    honest = context.reveal_statement

    def reveal_statement(
        bound: bytes, index: int, survivors: Any, *, shares: dict[int, bytes], **others: Any
    ) -> bytes:
        if index == 2:
            shares[1] = shares[1][:-1] + bytes([shares[1][-1] ^ 1])
        return honest(bound, index, survivors, shares=shares, **others)

    monkeypatch.setattr("privacy.secagg.participant.reveal_statement", reveal_statement)
