"""Rounds that lose hospitals: who is in the sum, who is named, and when a round gives up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pytest

from db.queries import memberships, participations
from db.session import transaction
from fl.messages import encode_enrolment, encode_reveal, encode_upload
from fl.secure_round import UPDATE_RANGE
from tasks.cohort import OpenedRound
from tasks.errors import HospitalRefused, HospitalSilent, RoundFailed, SumRefused
from tasks.gather import GatheredSum

pytestmark = pytest.mark.integration

STARTED: Final = datetime(2026, 1, 1, tzinfo=UTC)
STEP: Final = UPDATE_RANGE / (2**19 - 1)
FIVE: Final = ("a", "b", "c", "d", "e")  # quorum 4
SEVEN: Final = (*FIVE, "f", "g")  # quorum 5
CRASH: Final = json.dumps({"code": "crashed", "reason": "the run ended"}).encode()


def fall_silent(hospital: Any, kind: str) -> None:
    hospital.answers[kind] = None


def refuse(hospital: Any, kind: str) -> None:
    hospital.refuses[kind] = CRASH


def send_rubbish(hospital: Any, kind: str) -> None:
    hospital.answers[kind] = lambda message: b"FMED" + b"\xff" * 200


every_way = pytest.mark.parametrize(
    ("go", "code"),
    [(fall_silent, "silent"), (refuse, "crashed"), (send_rubbish, "bad-message")],
)


def states(consortium: Any, opened: OpenedRound) -> dict[str, tuple[str, str | None]]:
    with transaction(consortium.engine) as session:
        found = participations.participations(session, opened.round_id)
    return {p.hospital_id: (p.state, p.reason_code) for p in found}


def assert_sum_of(consortium: Any, gathered: GatheredSum, hospital_ids: tuple[str, ...]) -> None:
    parts = [consortium.hospitals[h] for h in hospital_ids]
    assert gathered.hospital_ids == hospital_ids
    assert gathered.weight == len(parts)
    error = np.abs(gathered.mean_update - np.mean([p.update for p in parts], axis=0))
    assert error.max() <= STEP
    assert np.array_equal(gathered.counts, sum(p.counts for p in parts))


@every_way
@pytest.mark.parametrize("kind", ["enrolment", "upload"])
def test_the_round_goes_on_without_a_hospital_lost_before_its_update(
    make_consortium: Any, kind: str, go: Callable[[Any, str], None], code: str
) -> None:
    consortium = make_consortium(hospital_ids=FIVE)
    go(consortium.hospitals["c"], kind)
    opened = consortium.open()
    gathered = consortium.gather(opened)

    assert_sum_of(consortium, gathered, ("a", "b", "d", "e"))
    assert [(loss.hospital_id, loss.kind, loss.code) for loss in gathered.losses] == [
        ("c", kind, code)
    ]
    state = "refused" if code == "crashed" else "lost"
    assert states(consortium, opened)["c"] == (state, code)
    # A hospital that says so is out at once, a silent one after a few seconds.
    assert consortium.now <= (0.0 if code != "silent" else 6.0)


@pytest.mark.parametrize(
    ("kind", "encode"), [("enrolment", encode_enrolment), ("upload", encode_upload)]
)
def test_a_hospital_that_is_suspended_in_a_round_is_out_at_once(
    make_consortium: Any, kind: str, encode: Callable[[Any], bytes]
) -> None:
    consortium = make_consortium(hospital_ids=FIVE)
    fall_silent(consortium.hospitals["c"], kind)

    def after_the_operator_has_suspended_it(message: Any) -> bytes:
        with transaction(consortium.engine) as session:
            memberships.suspend(session, hospital_id="c", reason="stolen keys", now=STARTED)
        return encode(message)

    consortium.hospitals["e"].answers[kind] = after_the_operator_has_suspended_it
    opened = consortium.open()
    gathered = consortium.gather(opened)
    assert_sum_of(consortium, gathered, ("a", "b", "d", "e"))
    (loss,) = gathered.losses
    assert (loss.hospital_id, loss.code, loss.reason) == ("c", "suspended", "stolen keys")
    assert states(consortium, opened)["c"] == ("lost", "suspended")
    assert consortium.now == 0.0


@every_way
def test_an_update_counts_even_if_its_hospital_is_lost_before_the_reveal(
    make_consortium: Any, go: Callable[[Any, str], None], code: str
) -> None:
    consortium = make_consortium(hospital_ids=FIVE)
    go(consortium.hospitals["b"], "reveal")
    gathered = consortium.gather(consortium.open())
    assert_sum_of(consortium, gathered, FIVE)
    assert [(loss.hospital_id, loss.code) for loss in gathered.losses] == [("b", code)]


@pytest.mark.parametrize(
    "losses",
    [
        {"a": "enrolment", "g": "enrolment"},
        {"a": "enrolment", "g": "upload"},
        {"a": "upload", "g": "upload"},
        {"a": "upload", "g": "echo"},
        {"a": "upload", "g": "reveal"},
        {"d": "echo", "e": "upload"},
    ],
)
@every_way
def test_two_of_seven_may_be_lost_at_any_stage(
    make_consortium: Any, losses: Mapping[str, str], go: Callable[[Any, str], None], code: str
) -> None:
    consortium = make_consortium(hospital_ids=SEVEN)
    for hospital_id, kind in losses.items():
        go(consortium.hospitals[hospital_id], kind)
    gathered = consortium.gather(consortium.open())
    summed = tuple(h for h in SEVEN if losses.get(h) not in ("enrolment", "upload"))
    assert_sum_of(consortium, gathered, summed)
    assert {loss.hospital_id: loss.kind for loss in gathered.losses} == losses


@pytest.mark.parametrize("kind", ["enrolment", "upload", "reveal"])
@pytest.mark.parametrize(
    ("go", "error"),
    [(fall_silent, HospitalSilent), (refuse, HospitalRefused), (send_rubbish, SumRefused)],
)
def test_below_the_quorum_the_round_ends_and_names_who_was_one_too_many(
    make_consortium: Any, kind: str, go: Callable[[Any, str], None], error: type[RoundFailed]
) -> None:
    consortium = make_consortium(hospital_ids=FIVE)
    for hospital_id in ("b", "d"):
        go(consortium.hospitals[hospital_id], kind)
    with pytest.raises(error, match=r"\bd\b"):
        consortium.gather(consortium.open())
    revealed = [sent.hospital_id for sent in consortium.sent if sent.kind == "reveal"]
    assert (revealed == []) == (kind != "reveal")


def test_a_training_may_ask_for_a_larger_sum_than_the_quorum(make_consortium: Any) -> None:
    consortium = make_consortium(hospital_ids=FIVE)
    opened = dataclasses.replace(consortium.open(), least_cohort=5)
    refuse(consortium.hospitals["e"], "upload")
    with pytest.raises(HospitalRefused, match="e refused"):
        consortium.gather(opened)


@pytest.mark.usefixtures("second_signs_a_wrong_share")
def test_a_wrong_share_is_named_and_spared(make_consortium: Any) -> None:
    consortium = make_consortium(hospital_ids=FIVE)
    gathered = consortium.gather(consortium.open())
    assert_sum_of(consortium, gathered, FIVE)
    assert gathered.faults == ("b: share of a: mismatch",)


def test_a_reveal_that_nobody_signed_is_left_out(make_consortium: Any) -> None:
    consortium = make_consortium(hospital_ids=FIVE)
    consortium.hospitals["e"].answers["reveal"] = lambda message: encode_reveal(
        dataclasses.replace(message, signature=bytes(64))
    )
    gathered = consortium.gather(consortium.open())
    assert_sum_of(consortium, gathered, FIVE)
    assert [loss.code for loss in gathered.losses] == ["bad-message"]


def test_the_bodies_of_echoes_and_certificates_are_deleted_too(make_consortium: Any) -> None:
    consortium = make_consortium(hospital_ids=FIVE)
    fall_silent(consortium.hospitals["a"], "upload")
    consortium.gather(consortium.open())
    rows = consortium.contents()["messages"]
    assert {row["kind"] for row in rows} >= {"echo", "certificate"}
    assert not [row["kind"] for row in rows if consortium.blobs.exists(row["digest"])]
