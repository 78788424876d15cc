"""Gathering from real hospitals over a real database: the sum, and who is named when it fails."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from db.models import Participation
from db.queries import messages, participations
from db.session import transaction
from fl.messages import encode_enrolment, encode_reveal, encode_upload
from fl.secure_round import UPDATE_RANGE
from privacy.secagg import Identity
from tasks.cohort import OpenedRound
from tasks.errors import HospitalRefused, HospitalSilent, SumRefused

pytestmark = pytest.mark.integration

STEP = UPDATE_RANGE / (2**19 - 1)
ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "enrolment": encode_enrolment,
    "upload": encode_upload,
    "reveal": encode_reveal,
}
every_kind = pytest.mark.parametrize("kind", ENCODERS)


def participation(consortium: Any, opened: OpenedRound, hospital_id: str) -> Participation:
    with transaction(consortium.engine) as session:
        return participations.get_participation(
            session, round_id=opened.round_id, hospital_id=hospital_id
        )


def digests(consortium: Any) -> dict[tuple[str, str], str]:
    """The hash of every message of the database, by kind and hospital."""
    rows = consortium.contents()["messages"]
    return {(row["kind"], row["hospital_id"]): row["digest"] for row in rows}


def test_the_sum_is_the_mean_of_the_updates_and_the_exact_sum_of_the_counts(
    consortium: Any,
) -> None:
    gathered = consortium.gather(consortium.open())

    updates = [hospital.update for hospital in consortium.hospitals.values()]
    assert gathered.weight == len(updates) == 3
    assert gathered.mean_update.dtype == np.float32
    error = np.abs(gathered.mean_update - np.mean(updates, axis=0, dtype=np.float64))
    assert error.max() <= STEP
    expected = sum(hospital.counts for hospital in consortium.hospitals.values())
    assert np.array_equal(gathered.counts, expected)
    assert gathered.counts.dtype == np.int64


def test_it_does_not_matter_in_which_order_hospitals_answer(consortium: Any) -> None:
    opened = consortium.open()
    consortium._parts.rotate(1)
    gathered = consortium.gather(opened)
    assert [sent.hospital_id for sent in consortium.sent[:3]] == ["west", "east", "north"]
    expected = np.mean([h.update for h in consortium.hospitals.values()], axis=0)
    assert np.abs(gathered.mean_update - expected).max() <= STEP


def test_an_evaluation_round_sums_counts_alone(consortium: Any) -> None:
    gathered = consortium.gather(consortium.open(kind="evaluation"))
    assert gathered.mean_update.shape == (0,)
    expected = sum(hospital.counts for hospital in consortium.hospitals.values())
    assert np.array_equal(gathered.counts, expected)


def test_five_hospitals_add_up_as_three_do(make_consortium: Any) -> None:
    consortium = make_consortium(hospital_ids=("a", "b", "c", "d", "e"))
    gathered = consortium.gather(consortium.open())
    updates = [hospital.update for hospital in consortium.hospitals.values()]
    assert gathered.weight == 5
    assert np.abs(gathered.mean_update - np.mean(updates, axis=0)).max() <= STEP


def test_the_bodies_are_gone_afterwards_and_their_hashes_are_kept(consortium: Any) -> None:
    opened = consortium.open()
    consortium.gather(opened)

    kept = digests(consortium)
    kinds = ("enrolment", "cohort", "upload", "survivors", "reveal")
    assert set(kept) == {(kind, hospital) for kind in kinds for hospital in consortium.hospitals}
    assert not [digest for digest in kept.values() if consortium.blobs.exists(digest)]
    assert consortium.blobs.exists(opened.invitation.weights)


@every_kind
def test_a_silent_hospital_is_named_and_lost_at_the_deadline(consortium: Any, kind: str) -> None:
    consortium.hospitals["north"].answers[kind] = None
    opened = consortium.open()
    with pytest.raises(HospitalSilent) as silent:
        consortium.gather(opened)

    ends = {"enrolment": 15, "upload": 48, "reveal": 60}[kind]
    assert str(silent.value) == f"north sent no {kind} within {ends} s"
    assert consortium.now == ends
    assert silent.value.hospital_ids == ("north",)
    lost = participation(consortium, opened, "north")
    assert (lost.state, lost.reason_code) == ("lost", "silent")
    assert lost.ended_at == consortium.coordinator.now()
    assert participation(consortium, opened, "east").state in ("enrolled", "uploaded", "revealed")


def test_all_silent_hospitals_are_named(consortium: Any) -> None:
    for hospital_id in ("west", "east"):
        consortium.hospitals[hospital_id].answers["upload"] = None
    opened = consortium.open()
    with pytest.raises(HospitalSilent, match="east, west sent no upload"):
        consortium.gather(opened)
    assert participation(consortium, opened, "west").state == "lost"
    assert participation(consortium, opened, "north").state == "uploaded"


@every_kind
def test_a_refusal_ends_the_round_at_once_with_its_reason(consortium: Any, kind: str) -> None:
    refusal = {"code": "data-contract", "reason": "radius: out-of-range"}
    consortium.hospitals["west"].refuses[kind] = json.dumps(refusal).encode()
    consortium.hospitals["north"].answers[kind] = None  # the others may take their time
    with pytest.raises(HospitalRefused) as refused:
        consortium.gather(consortium.open())

    assert str(refused.value) == "west refused: data-contract: radius: out-of-range"
    assert refused.value.hospital_id == "west"
    assert consortium.now == 0.0


def signed_by_a_stranger(kind: str, message: Any) -> bytes:
    forged = Identity.generate().signing.sign(b"not what was to be signed")
    return ENCODERS[kind](dataclasses.replace(message, signature=forged))


def of_another_round(kind: str, message: Any) -> bytes:
    return ENCODERS[kind](dataclasses.replace(message, round_number=2))


def cut_short(kind: str, message: Any) -> bytes:
    return ENCODERS[kind](message)[:-1]


def another_kind_s(kind: str, message: Any) -> bytes:
    other = {"enrolment": b"upload", "upload": b"reveal", "reveal": b"upload"}[kind]
    return ENCODERS[kind](message).replace(b'"kind":"' + kind.encode(), b'"kind":"' + other)


def not_a_frame(kind: str, message: Any) -> bytes:
    return b"FMED" + b"\xff" * 200


@every_kind
@pytest.mark.parametrize(
    ("garble", "why"),
    [
        (signed_by_a_stranger, "SignatureRefused"),
        (of_another_round, "CohortRefused"),
        (cut_short, "WireError"),
        (another_kind_s, "WireError"),
        (not_a_frame, "WireError"),
    ],
)
def test_whoever_sends_what_does_not_fit_is_named(
    consortium: Any, kind: str, garble: Callable[[str, Any], bytes], why: str
) -> None:
    consortium.hospitals["north"].answers[kind] = lambda message: garble(kind, message)
    with pytest.raises(SumRefused, match=f"^north: {kind}: {why}: "):
        consortium.gather(consortium.open())


@every_kind
@pytest.mark.parametrize("name", [3, 256])
def test_a_message_in_the_name_of_another_is_refused_and_its_poster_named(
    consortium: Any, kind: str, name: int
) -> None:
    def in_another_name(message: Any) -> bytes:
        assert message.index == 2
        return ENCODERS[kind](dataclasses.replace(message, index=name))

    consortium.hospitals["north"].answers[kind] = in_another_name
    with pytest.raises(SumRefused) as refused:
        consortium.gather(consortium.open())
    assert str(refused.value) == f"north: {kind}: ProtocolError: it is in the name of party {name}"


def test_another_hospital_s_own_message_is_refused_when_it_is_posted_again(
    consortium: Any,
) -> None:
    """A replay: well-formed, signed, and not the poster's."""
    opened = consortium.open()

    def of_east(message: Any) -> bytes:
        (east,) = [s for s in consortium.sent if (s.hospital_id, s.kind) == ("east", "upload")]
        return east.body

    consortium.hospitals["north"].answers["upload"] = of_east
    with pytest.raises(SumRefused, match=r"^north: upload: .* in the name of party 1$"):
        consortium.gather(opened)


def test_an_upload_of_another_length_is_named(consortium: Any) -> None:
    def longer(message: Any) -> bytes:
        return encode_upload(dataclasses.replace(message, masked=np.tile(message.masked, 2)))

    consortium.hospitals["east"].answers["upload"] = longer
    with pytest.raises(
        SumRefused, match=r"^east: upload: WireError: upload: masked must be uint32"
    ):
        consortium.gather(consortium.open())


def test_an_upload_that_was_changed_on_its_way_is_refused(consortium: Any) -> None:
    def shifted(message: Any) -> bytes:
        masked = message.masked.copy()
        masked[0] += 1
        return encode_upload(dataclasses.replace(message, masked=masked))

    consortium.hospitals["west"].answers["upload"] = shifted
    with pytest.raises(SumRefused, match=r"^west: upload: SignatureRefused"):
        consortium.gather(consortium.open())


@pytest.mark.usefixtures("second_signs_a_wrong_share")
def test_shares_that_do_not_fit_give_no_sum(consortium: Any) -> None:
    """North signs other shares than it holds; of three parties none can be done without."""
    with pytest.raises(SumRefused, match=r"^ShareRefused: party 1's self mask: .* \[2\]"):
        consortium.gather(consortium.open())


def test_nothing_is_read_but_the_hospitals_messages(consortium: Any) -> None:
    opened = consortium.open()
    before = len(consortium.blobs.read)
    consortium.gather(opened)
    assert sorted(consortium.blobs.read[before:]) == sorted(sent.body for sent in consortium.sent)
    with transaction(consortium.engine) as session:
        found = messages.list_messages(session, round_id=opened.round_id, kind="upload")
        assert [m.hospital_id for m in found] == ["east", "north", "west"]
