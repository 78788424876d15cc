"""A hospital in an honest round and beside it: its inputs, its steps, what it keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from privacy.errors import (
    InputRefused,
    ParametersRefused,
    ProtocolError,
    RoundReused,
    SignatureRefused,
)
from privacy.secagg import Identity, MemoryJournal, Participant, ShareFault, SurvivorView
from privacy.secagg.context import vector_digest


def flipped(value, at=-1):
    changed = bytearray(value)
    changed[at] ^= 1
    return bytes(changed)


def test_a_signed_key_of_an_earlier_round_is_refused(five):
    """Replaying a key of round 1 in round 2 must not reuse its masks."""
    first = five.begin(1)
    second = five.begin(2)
    replayed = replace(
        second[1],
        public_keys=second[1].public_keys | {2: first[1].public_keys[2]},
        signatures=second[1].signatures | {2: first[1].signatures[2]},
    )
    with pytest.raises(SignatureRefused, match="enrolment of party 2"):
        five.upload(1, replayed, round_number=2)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"vector": np.full(10, np.nan, np.float32)}, "NaN"),
        ({"vector": np.zeros(9, np.float32)}, "shape"),
        ({"weight": 2}, "weight"),
        ({"counts": np.array([1, -1])}, "counts"),
        ({"model_hash": b"short"}, "model_hash: 32 raw bytes"),
        ({"model_hash": "m" * 32}, "model_hash: 32 raw bytes"),
    ],
)
def test_refused_inputs(five, change, named):
    views = five.begin()
    with pytest.raises(InputRefused, match=named):
        five.upload(1, views[1], **change)
    five.coordinator.add(five.upload(1, views[1]))


@pytest.fixture
def survivors(five):
    return five.closed_without()


def test_uploads_made_from_another_model_are_not_revealed_for(five):
    """A coordinator that sends one hospital other weights gets nothing from the rest."""
    views = five.begin()
    uploads = {index: five.upload(index, views[index]) for index in (1, 2, 3, 4)}
    uploads[5] = five.upload(5, views[5], model_hash=b"\xff" * 32)
    # A dishonest coordinator does not check, and passes on what it got.
    view = SurvivorView(
        1,
        {i: vector_digest(upload.masked, ()) for i, upload in uploads.items()},
        {i: upload.commitment for i, upload in uploads.items()},
        {i: upload.share_commitments for i, upload in uploads.items()},
        {i: upload.signature for i, upload in uploads.items()},
        {i: upload.sealed_shares[1] for i, upload in uploads.items() if i != 1},
    )
    with pytest.raises(SignatureRefused, match="upload of party 5"):
        five.hospitals[1].reveal(1, view)
    # Four parties agree on the model, and are enough without the fifth.
    for index in (1, 2, 3, 4):
        five.coordinator.add(uploads[index])
    views = five.coordinator.close()
    certificate = five.certificate(views)
    reveals = [five.hospitals[i].reveal(1, view, certificate) for i, view in views.items()]
    assert five.coordinator.finish(reveals).parties == (1, 2, 3, 4)


SPOILED = {
    "tampered with": lambda sealed: {2: flipped(sealed[2])},
    "swapped": lambda sealed: {2: sealed[3], 3: sealed[2]},
    "cut": lambda sealed: {2: sealed[2][:20]},
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_share_that_does_not_open_is_done_without_and_its_dealer_named(five, case):
    views = five.begin()
    sealed = views[1].sealed_shares
    spoiled = SPOILED[case](sealed)
    upload = five.upload(1, replace(views[1], sealed_shares=sealed | spoiled))
    assert upload.bad_dealers == tuple(spoiled)
    five.coordinator.add(upload)
    assert five.coordinator.bad_dealers() == {1: tuple(spoiled)}
    for index in (2, 3, 4, 5):
        five.coordinator.add(five.upload(index, views[index]))
    views = five.coordinator.close()
    sealed = views[1].sealed_shares
    spoiled = SPOILED[case](sealed)
    reveal = five.hospitals[1].reveal(1, replace(views[1], sealed_shares=sealed | spoiled))
    assert set(reveal.shares) == {1, 2, 3, 4, 5} - set(spoiled)
    reveals = [reveal, *(five.hospitals[i].reveal(1, views[i]) for i in (2, 3, 4, 5))]
    result = five.coordinator.finish(reveals)
    assert result.weight == 5
    assert result.faults == tuple(ShareFault(1, dealer, "missing") for dealer in spoiled)


def test_a_round_key_cannot_be_asked_for_as_a_self_mask(five):
    """The shares of a survivor's private key are never opened towards the coordinator."""
    views = five.begin()
    for upload in five.uploads(views).values():
        five.coordinator.add(upload)
    view = five.coordinator.close()[1]
    swapped = replace(view, sealed_shares=view.sealed_shares | {2: views[1].sealed_shares[2]})
    reveal = five.hospitals[1].reveal(1, swapped)
    assert set(reveal.shares) == {1, 3, 4, 5}
    assert reveal.key_shares == {}


@pytest.mark.parametrize("least_cohort", [2, 0, 6, 3.0, True])
def test_a_least_cohort_that_hides_nothing_is_refused(five, least_cohort):
    with pytest.raises(ParametersRefused, match=r"least_cohort: .* must lie in 3 to 5"):
        Participant(
            1,
            five.parameters,
            five.identities[1],
            five.roster,
            journal=MemoryJournal(),
            least_cohort=least_cohort,
        )


def test_the_steps_come_in_order(five, survivors):
    hospital = five.hospitals[1]
    with pytest.raises(ProtocolError, match="has not enrolled in round 2"):
        hospital.upload(
            2,
            replace(five.begin(3)[1], round_number=2),
            model_hash=bytes(32),
            vector=np.zeros(10, np.float32),
            weight=1,
            counts=np.zeros(2, np.int64),
        )
    with pytest.raises(ProtocolError, match="has not enrolled in round 2"):
        hospital.reveal(2, survivors[1])
    with pytest.raises(ProtocolError, match="has not uploaded in round 3"):
        hospital.reveal(3, survivors[1])


def test_every_step_is_taken_once(five):
    hospital = five.hospitals[1]
    views = five.begin()
    with pytest.raises(RoundReused, match="has enrolled in round 1 before"):
        hospital.enrol(1)
    for upload in five.uploads(views).values():
        five.coordinator.add(upload)
    with pytest.raises(RoundReused, match="has uploaded in round 1 before"):
        five.upload(1, views[1])
    view = five.coordinator.close()[1]
    hospital.reveal(1, view)
    with pytest.raises(RoundReused, match="has revealed in round 1 before"):
        hospital.reveal(1, view)
    with pytest.raises(RoundReused, match="has uploaded in round 1 before"):
        five.upload(1, views[1])
    with pytest.raises(RoundReused, match="has enrolled in round 1 before"):
        hospital.enrol(1)


def test_secrets_are_dropped_after_use(five):
    hospital = five.hospitals[1]
    views = five.begin()
    private_key = hospital._rounds.enrolled(1).private_key.private_bytes_raw()
    uploads = five.uploads(views)
    kept = hospital._rounds.uploaded(1)
    assert private_key not in (kept.own_share, *kept.key_shares.values())
    assert set(kept.key_shares) == {2, 3, 4, 5}
    for upload in uploads.values():
        five.coordinator.add(upload)
    hospital.reveal(1, five.coordinator.close()[1])
    assert hospital._rounds._states == {1: None}


def test_secrets_do_not_show_in_the_representation(five):
    five.uploads(five.begin())
    kept = five.hospitals[1]._rounds.uploaded(1)
    assert "share" not in repr(kept)


@pytest.mark.parametrize("number", [0, -1, 2**32, True, 1.0, "1"])
def test_what_is_no_round_number_is_refused(session, number):
    with pytest.raises(ProtocolError, match="round number"):
        session.hospitals[1].enrol(number)


def test_fresh_keys_each_round(session):
    first, second = session.hospitals[1].enrol(1), session.hospitals[1].enrol(2)
    assert first.public_key != second.public_key
    assert first.sealed_shares != second.sealed_shares


def test_operating_system_randomness_is_the_default(session):
    hospital, again = (
        Participant(
            1, session.parameters, session.identities[1], session.roster, journal=MemoryJournal()
        )
        for _ in range(2)
    )
    assert hospital.enrol(1).public_key != again.enrol(1).public_key
    assert Identity.generate().public != Identity.generate().public
