"""A hospital's part of a round, against two honest peers and a coordinator in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from fl.architectures import initial_weights
from fl.evaluation import BINS
from fl.invitation import RoundInvitation
from fl.messages import (
    decode_enrolment,
    decode_reveal,
    decode_upload,
    encode_cohort,
    encode_survivors,
)
from fl.secure_round import COUNTERS, identities, sum_parameters
from fl.spec import ModelSpec
from fl.weights import encode_weights, layout, weights_hash
from privacy.noise import SecureGenerator
from privacy.secagg import (
    CohortView,
    Identity,
    MemoryJournal,
    Participant,
    SecureSum,
    SumResult,
)
from tasks.hospital.exchange import ExchangeTimeout, RoundClosed
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site
from tasks.hospital.stages import StageClock, take_part

Invite = Callable[..., RoundInvitation]


@dataclass
class FakeExchange:
    """The exchange and all behind it: the coordinator's secure sum and the two peers."""

    invitation: RoundInvitation
    encoded: bytes
    peers: dict[str, Identity]
    own_index: int
    spoil_cohort: Callable[[CohortView], CohortView] = field(default=lambda view: view)
    raises: dict[str, Exception] = field(default_factory=dict)
    sent: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)
    result: SumResult | None = None

    def __post_init__(self) -> None:
        from fl.weights import decode_weights

        size = layout(decode_weights(self.encoded)).size
        self.parameters = sum_parameters(self.invitation, parameters=size)
        self.sum = SecureSum(self.parameters, identities(self.invitation))
        self.others = {
            self.invitation.index_of(name): Participant(
                self.invitation.index_of(name),
                self.parameters,
                identity,
                identities(self.invitation),
                journal=MemoryJournal(),
            )
            for name, identity in self.peers.items()
        }

    def weights(self, digest: str) -> bytes:
        assert digest == self.invitation.weights
        return self.encoded

    def wait_for(self, round_id: UUID, kind: str, *, timeout_s: float) -> bytes:
        assert (round_id, timeout_s) == (self.invitation.round_id, self.invitation.deadline_s)
        if kind in self.raises:
            raise self.raises[kind]
        return self.answers[kind]

    def put(self, round_id: UUID, kind: str, body: bytes) -> None:
        assert round_id == self.invitation.round_id
        self.sent[kind] = body
        number = self.invitation.number
        if kind == "enrolment":
            enrolments = [other.enrol(number) for other in self.others.values()]
            self.cohort = self.sum.begin(
                number,
                enrolments=[*enrolments, decode_enrolment(body)],
                model_hash=bytes.fromhex(self.invitation.weights),
            )
            shown = self.spoil_cohort(self.cohort[self.own_index])
            self.answers["cohort"] = encode_cohort(shown)
        elif kind == "upload":
            self.sum.add(decode_upload(body, parameters=self.parameters))
            for index, other in self.others.items():
                upload = other.upload(
                    number,
                    self.cohort[index],
                    model_hash=bytes.fromhex(self.invitation.weights),
                    vector=np.zeros(self.parameters.dimension, np.float32),
                    weight=1,
                    counts=np.zeros(COUNTERS, np.int64),
                )
                self.sum.add(upload)
            self.survivors = self.sum.close()
            self.answers["survivors"] = encode_survivors(self.survivors[self.own_index])
        elif kind == "reveal":
            reveals = [o.reveal(number, self.survivors[i]) for i, o in self.others.items()]
            self.result = self.sum.finish([*reveals, decode_reveal(body)])


@pytest.fixture
def begin(site: Site, invite: Invite, peers: dict[str, Identity]) -> Callable[..., FakeExchange]:
    def make(*, encoded: bytes | None = None, **changes: Any) -> FakeExchange:
        spec: ModelSpec = invite().model
        encoded = encoded or encode_weights(initial_weights(spec, seed=1))
        invitation = invite(weights=weights_hash(encoded), **changes)
        return FakeExchange(invitation, encoded, peers, invitation.index_of("north"))

    return make


def taking_part(site: Site, exchange: FakeExchange) -> dict[str, float]:
    generator = SecureGenerator.from_os()
    return take_part(site, exchange.invitation, exchange, generator=generator)  # type: ignore[arg-type]


def test_its_update_and_its_counts_arrive_in_the_sum_alone(
    site: Site, begin: Callable[..., FakeExchange]
) -> None:
    exchange = begin()
    seconds = taking_part(site, exchange)

    assert list(exchange.sent) == ["enrolment", "upload", "reveal"]
    assert exchange.result is not None
    assert np.abs(exchange.result.mean).max() > 0  # it has trained
    held_out = exchange.result.counts.reshape(2, BINS).sum()
    assert -180 < held_out < 260  # of 80 rows, within ten deviations of the noise on all counts
    assert list(seconds) == [
        *("check", "enrol", "train", "wait_for_cohort", "upload", "wait_for_survivors", "reveal")
    ]
    *pinned, last = site.store.entries()
    assert {entry.event for entry in pinned} == {"identity-pinned"}
    assert (last.event, last.details) == (
        "answered",
        {"round": str(exchange.invitation.round_id), "number": 1},
    )


def test_an_evaluation_round_trains_nothing(site: Site, begin: Callable[..., FakeExchange]) -> None:
    exchange = begin(kind="evaluation")
    taking_part(site, exchange)
    assert exchange.result is not None
    assert exchange.result.mean.shape == (0,)
    assert exchange.result.counts.any()


def test_the_same_rows_are_held_out_in_every_round(
    site: Site, begin: Callable[..., FakeExchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.hospital.stages.noised_counts", lambda counts, **_: counts)
    counts = []
    for number in (1, 2):
        exchange = begin(number=number, kind="evaluation")
        taking_part(site, exchange)
        assert exchange.result is not None
        counts.append(exchange.result.counts)
    assert np.array_equal(*counts)


def refused(site: Site, exchange: FakeExchange) -> dict[str, str]:
    """Takes part; returns the refusal that was posted before it was raised."""
    with pytest.raises(Refusal) as raised:
        taking_part(site, exchange)
    posted: dict[str, str] = json.loads(exchange.sent["refusal"])
    assert posted == {"code": raised.value.code, "reason": raised.value.reason}
    entry = site.store.entries()[-1]
    assert entry.event == "refused"
    assert entry.details == {
        "round": str(exchange.invitation.round_id),
        "code": raised.value.code,
    }
    return posted


def test_a_refusal_is_posted_before_anything_else_leaves(
    site: Site, begin: Callable[..., FakeExchange]
) -> None:
    site.settings.data_path.write_text("radius,texture,malignant\n99,1,0\n")
    exchange = begin()
    assert refused(site, exchange) == {"code": "data-contract", "reason": "radius: out-of-range"}
    assert list(exchange.sent) == ["refusal"]


def test_a_round_is_not_answered_twice(site: Site, begin: Callable[..., FakeExchange]) -> None:
    exchange = begin()
    taking_part(site, exchange)
    again = FakeExchange(exchange.invitation, exchange.encoded, exchange.peers, exchange.own_index)
    assert refused(site, again)["code"] == "round-reused"
    assert list(again.sent) == ["refusal"]


def test_weights_of_another_model_are_refused(
    site: Site, begin: Callable[..., FakeExchange]
) -> None:
    other = encode_weights({"w": np.zeros(3, np.float32)})
    assert refused(site, begin(encoded=other))["code"] == "model"


def test_what_are_no_weights_are_refused(site: Site, begin: Callable[..., FakeExchange]) -> None:
    exchange = begin()
    exchange.encoded = b"FMED" + bytes(100)
    assert refused(site, exchange)["code"] == "model"
    assert list(exchange.sent) == ["refusal"]


def test_a_cohort_with_a_key_of_the_coordinator_s_own_gets_no_upload(
    site: Site, begin: Callable[..., FakeExchange]
) -> None:
    exchange = begin()

    def with_another_key(view: CohortView) -> CohortView:
        return replace(view, public_keys={**view.public_keys, 1: bytes(31) + b"\x09"})

    exchange.spoil_cohort = with_another_key
    posted = refused(site, exchange)
    assert posted["code"] == "protocol"
    assert posted["reason"].startswith("SignatureRefused: enrolment of party 1")
    assert "upload" not in exchange.sent


@pytest.mark.parametrize("kind", ["cohort", "survivors"])
@pytest.mark.parametrize("error", [RoundClosed("west refused"), ExchangeTimeout("no message")])
def test_what_the_exchange_says_is_no_refusal(
    site: Site, begin: Callable[..., FakeExchange], kind: str, error: Exception
) -> None:
    exchange = begin()
    exchange.raises[kind] = error
    with pytest.raises(type(error)):
        taking_part(site, exchange)
    assert "refusal" not in exchange.sent
    assert "reveal" not in exchange.sent


def test_an_error_inside_leaves_as_its_class_name_alone(
    site: Site, begin: Callable[..., FakeExchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("Erika Mustermann")

    monkeypatch.setattr("tasks.hospital.stages.work_locally", broken)
    exchange = begin()
    assert refused(site, exchange) == {
        "code": "internal-error",
        "reason": "ZeroDivisionError; see the hospital's own log",
    }
    own = [entry for entry in site.store.entries() if entry.event == "internal-error"]
    assert "Erika Mustermann" in str(own[0].details)


def test_the_update_is_what_training_has_changed(site: Site, invite: Invite) -> None:
    from fl.arrays import parameters_in, record_of
    from fl.data import load_table
    from tasks.hospital.stages import work_locally

    invitation = invite()
    incoming = record_of(initial_weights(invitation.model, seed=1))
    size = parameters_in(incoming)
    table = load_table(site.settings.data_path, invitation.model.contract)
    work = work_locally(
        table,
        invitation,
        incoming,
        split_key=site.split_key,
        generator=SecureGenerator.from_os(),
    )
    assert work.update.shape == (size,)
    assert work.update.dtype == np.float32
    assert np.any(work.update)


def test_shared_noise_on_weights_that_float32_rounds_too_coarsely_is_refused(
    site: Site, invite: Invite, begin: Callable[..., FakeExchange]
) -> None:
    model, plan = invite().model, invite().plan
    shared = {"noise_shares": 2, "sampling_rate": 1.0, "steps_per_round": 1}
    weights = initial_weights(model, seed=1)
    large = encode_weights({name: np.full_like(value, 41.0) for name, value in weights.items()})
    exchange = begin(plan=plan.model_copy(update=shared), encoded=large)
    assert "a weight of 41" in refused(site, exchange)["reason"]
    assert list(exchange.sent) == ["refusal"]


def test_the_stage_clock_books_time_on_the_stage_that_ended() -> None:
    times = iter([10.0, 10.5, 12.0])
    clock = StageClock(clock=lambda: next(times))
    clock.mark("check")
    clock.mark("enrol")
    assert clock.seconds == {"check": 0.5, "enrol": 1.5}
