"""A hospital's part of a round, against two honest peers and a coordinator in this process."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from fl.architectures import initial_weights
from fl.evaluation import BINS
from fl.invitation import RoundInvitation
from fl.weights import encode_weights
from privacy.ledger import Charge, Limits
from privacy.mechanisms import Gaussian
from privacy.noise import SecureGenerator
from privacy.secagg import (
    CohortView,
)
from tasks.hospital.charging import split_name
from tasks.hospital.exchange_errors import ExchangeTimeout, RoundClosed
from tasks.hospital.policy import policy_file
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site, open_ledger
from tasks.hospital.stages import StageClock, take_part, work_locally
from tasks.hospital.stop import stop

Invite = Callable[..., RoundInvitation]
Begin = Callable[..., Any]  # the fake exchange of conftest.py


def taking_part(site: Site, exchange: Any) -> dict[str, float]:
    generator = SecureGenerator.from_os()
    return take_part(site, exchange.invitation, exchange, generator=generator)


def test_its_update_and_its_counts_arrive_in_the_sum_alone(site: Site, begin: Begin) -> None:
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


def test_an_evaluation_round_trains_nothing(site: Site, begin: Begin) -> None:
    exchange = begin(kind="evaluation")
    taking_part(site, exchange)
    assert exchange.result is not None
    assert exchange.result.mean.shape == (0,)
    assert exchange.result.counts.any()


def test_the_same_rows_are_held_out_in_every_round(
    site: Site, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.hospital.stages.noised_counts", lambda counts, **_: counts)
    counts = []
    for number in (1, 2):
        exchange = begin(number=number, kind="evaluation")
        taking_part(site, exchange)
        assert exchange.result is not None
        counts.append(exchange.result.counts)
    assert np.array_equal(*counts)


def refused(site: Site, exchange: Any) -> dict[str, str]:
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


def test_a_refusal_is_posted_before_anything_else_leaves(site: Site, begin: Begin) -> None:
    site.settings.data_path.write_text("radius,texture,malignant\n99,1,0\n")
    exchange = begin()
    assert refused(site, exchange) == {"code": "data-contract", "reason": "radius: out-of-range"}
    assert list(exchange.sent) == ["refusal"]


def test_a_round_is_not_answered_twice(site: Site, begin: Begin) -> None:
    exchange = begin()
    taking_part(site, exchange)
    again = type(exchange)(
        exchange.invitation, exchange.encoded, exchange.peers, exchange.own_index
    )
    assert refused(site, again)["code"] == "round-reused"
    assert list(again.sent) == ["refusal"]


def test_weights_of_another_model_are_refused(site: Site, begin: Begin) -> None:
    other = encode_weights({"w": np.zeros(3, np.float32)})
    assert refused(site, begin(encoded=other))["code"] == "model"


def test_what_are_no_weights_are_refused(site: Site, begin: Begin) -> None:
    exchange = begin()
    exchange.encoded = b"FMED" + bytes(100)
    assert refused(site, exchange)["code"] == "model"
    assert list(exchange.sent) == ["refusal"]


def test_a_cohort_with_a_key_of_the_coordinator_s_own_gets_no_upload(
    site: Site, begin: Begin
) -> None:
    exchange = begin()

    def with_another_key(view: CohortView) -> CohortView:
        return replace(view, public_keys={**view.public_keys, 1: bytes(31) + b"\x09"})

    exchange.spoil_cohort = with_another_key
    posted = refused(site, exchange)
    assert posted["code"] == "protocol"
    assert posted["reason"].startswith("SignatureRefused: enrolment of party 1")
    assert "upload" not in exchange.sent


def test_a_hospital_that_is_stopped_while_it_trains_uploads_nothing(
    site: Site, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped_meanwhile(*arguments: Any, **options: Any) -> Any:
        work = work_locally(*arguments, **options)
        assert stop(site, now=datetime.now(UTC))
        return work

    monkeypatch.setattr("tasks.hospital.stages.work_locally", stopped_meanwhile)
    exchange = begin()
    assert refused(site, exchange)["code"] == "stopped"
    assert list(exchange.sent) == ["enrolment", "refusal"]


def test_a_training_that_is_revoked_while_it_waits_for_the_cohort_gets_no_upload(
    site: Site, begin: Begin
) -> None:
    exchange = begin()

    def revoked_meanwhile(view: CohortView) -> CohortView:
        site.approvals.revoke(exchange.invitation.training_id, at=datetime.now(UTC))
        return view

    exchange.spoil_cohort = revoked_meanwhile
    assert refused(site, exchange)["code"] == "approval-revoked"
    assert list(exchange.sent) == ["enrolment", "refusal"]


@pytest.mark.parametrize("kind", ["cohort", "survivors"])
@pytest.mark.parametrize("error", [RoundClosed("west refused"), ExchangeTimeout("no message")])
def test_what_the_exchange_says_is_no_refusal(
    site: Site, begin: Begin, kind: str, error: Exception
) -> None:
    exchange = begin()
    exchange.raises[kind] = error
    with pytest.raises(type(error)):
        taking_part(site, exchange)
    assert "refusal" not in exchange.sent
    assert "reveal" not in exchange.sent


def test_an_error_inside_leaves_as_its_class_name_alone(
    site: Site, begin: Begin, monkeypatch: pytest.MonkeyPatch
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


def test_a_round_is_charged_on_disk_before_its_upload_leaves(
    site: Site, begin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, charged = begin(), {}
    put = exchange.put

    def looking(round_id: UUID, kind: str, body: bytes) -> None:
        accounts = open_ledger(site.settings).accounts()  # as another process reads the disk
        charged[kind] = [(c.round_id, c.part) for c in accounts.charges]
        put(round_id, kind, body)

    monkeypatch.setattr(exchange, "put", looking)
    taking_part(site, exchange)
    both = [(exchange.invitation.round_id, part) for part in ("held-out", "training")]
    assert charged == {"enrolment": [], "upload": both, "reveal": both}


def test_without_budget_it_refuses_with_the_figure_and_nothing_leaves(
    site: Site, begin: Callable[..., Any]
) -> None:
    policy = policy_file(site.settings)
    policy.write_text(policy.read_text().replace("epsilon_total: 100", "epsilon_total: 20"))
    first = UUID(int=1)
    site.ledger.accept(
        [
            Charge(
                training=first,
                cohort="all",
                fingerprint="f",
                split=split_name(site.split_key),
                number=1,
                round_id=first,
                part="training",
                mechanism=Gaussian(0.5),
            )
        ],
        limits=Limits(epsilon_per_training=20, epsilon_total=20, delta=1e-5),
    )
    before = site.ledger.entries()
    exchange = begin()
    posted = refused(site, exchange)
    assert posted["code"] == "privacy-budget"
    assert re.fullmatch(
        r"cohort 'all' has epsilon \d+\.\d\d of 20 left at delta 1e-05; "
        r"this training would take it to 2\d\.\d\d",
        posted["reason"],
    )
    assert list(exchange.sent) == ["refusal"]
    assert site.ledger.entries() == before


def test_the_update_is_what_training_has_changed(site: Site, invite: Invite) -> None:
    from fl.arrays import parameters_in, record_of
    from fl.data import load_table

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
    site: Site, invite: Invite, begin: Callable[..., Any]
) -> None:
    policy = policy_file(site.settings)
    policy.write_text(policy.read_text() + "noise: shared\nmost_colluding: 1\n")
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
