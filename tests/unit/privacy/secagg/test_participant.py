"""What a hospital refuses: each row changes one thing in an honest round."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from privacy.errors import (
    CohortRefused,
    InputRefused,
    ProtocolError,
    RoundReused,
    ShareRefused,
    SignatureRefused,
)
from privacy.secagg import Identity, Participant, SurvivorView
from privacy.secagg.context import upload_digest


def without(mapping, index):
    return {key: value for key, value in mapping.items() if key != index}


def flipped(value, at=-1):
    changed = bytearray(value)
    changed[at] ^= 1
    return bytes(changed)


def leaves_out(view, index):
    return replace(
        view,
        public_keys=without(view.public_keys, index),
        signatures=without(view.signatures, index),
        sealed_shares=without(view.sealed_shares, index),
    )


COHORTS = {
    "another round": (
        lambda v: replace(v, round_number=2),
        CohortRefused,
        "the view is of round 2, not of round 1",
    ),
    "leaves this party out": (lambda v: leaves_out(v, 1), CohortRefused, "leaves out party 1"),
    "below the quorum": (
        lambda v: leaves_out(leaves_out(v, 4), 5),
        CohortRefused,
        "3 parties are below the quorum 4",
    ),
    "a signature too few": (
        lambda v: replace(v, signatures=without(v.signatures, 2)),
        CohortRefused,
        "does not hold one signature of each",
    ),
    "a share too few": (
        lambda v: replace(v, sealed_shares=without(v.sealed_shares, 2)),
        CohortRefused,
        "one share of each",
    ),
    "a stranger": (
        lambda v: replace(
            v,
            public_keys=v.public_keys | {9: bytes(32)},
            signatures=v.signatures | {9: bytes(64)},
            sealed_shares=v.sealed_shares | {9: bytes(61)},
        ),
        CohortRefused,
        r"parties \[9\] are not in the roster",
    ),
    "this party's key replaced": (
        lambda v: replace(v, public_keys=v.public_keys | {1: os.urandom(32)}),
        SignatureRefused,
        "the key shown for party 1 is not the one it sent",
    ),
    "another's key replaced": (
        lambda v: replace(v, public_keys=v.public_keys | {2: os.urandom(32)}),
        SignatureRefused,
        "enrolment of party 2: the signature does not verify",
    ),
    "unsigned": (
        lambda v: replace(v, signatures=v.signatures | {3: b""}),
        SignatureRefused,
        "enrolment of party 3",
    ),
    "keys swapped": (
        lambda v: replace(
            v,
            public_keys=v.public_keys | {2: v.public_keys[3], 3: v.public_keys[2]},
            signatures=v.signatures | {2: v.signatures[3], 3: v.signatures[2]},
        ),
        SignatureRefused,
        "enrolment of party [23]",
    ),
    "a share tampered with": (
        lambda v: replace(v, sealed_shares=v.sealed_shares | {4: flipped(v.sealed_shares[4])}),
        ShareRefused,
        "round key that party 4 sealed for party 1 does not open",
    ),
    "shares swapped": (
        lambda v: replace(v, sealed_shares=v.sealed_shares | {2: v.sealed_shares[3]}),
        ShareRefused,
        "party 2 sealed",
    ),
}


@pytest.fixture
def five(make_session):
    return make_session(5, quorum=4)


@pytest.mark.parametrize("case", COHORTS)
def test_refused_cohorts(five, case):
    change, error, named = COHORTS[case]
    views = five.begin()
    with pytest.raises(error, match=named):
        five.upload(1, change(views[1]))
    # Nothing was said and nothing changed: the honest view still works.
    five.coordinator.add(five.upload(1, views[1]))


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
    for upload in five.uploads(five.begin()).values():
        five.coordinator.add(upload)
    return five.coordinator.close()


def loses(view, index):
    return replace(
        view,
        upload_digests=without(view.upload_digests, index),
        signatures=without(view.signatures, index),
        sealed_shares=without(view.sealed_shares, index),
    )


SURVIVORS = {
    "one lost": (lambda v: loses(v, 5), CohortRefused, r"\[1, 2, 3, 4\] are not the cohort"),
    "two lost": (lambda v: loses(loses(v, 5), 4), CohortRefused, "are not the cohort"),
    "this party lost": (lambda v: loses(v, 1), CohortRefused, "are not the cohort"),
    "a stranger": (
        lambda v: replace(v, upload_digests=v.upload_digests | {9: bytes(32)}),
        CohortRefused,
        "are not the cohort",
    ),
    "another round": (lambda v: replace(v, round_number=2), CohortRefused, "of round 2"),
    "a signature too few": (
        lambda v: replace(v, signatures=without(v.signatures, 2)),
        CohortRefused,
        "one signature of each",
    ),
    "a share too few": (
        lambda v: replace(v, sealed_shares=without(v.sealed_shares, 2)),
        CohortRefused,
        "one share of each",
    ),
    "unsigned": (
        lambda v: replace(v, signatures=v.signatures | {3: b""}),
        SignatureRefused,
        "upload of party 3",
    ),
    "another upload": (
        lambda v: replace(v, upload_digests=v.upload_digests | {3: bytes(32)}),
        SignatureRefused,
        "upload of party 3",
    ),
    "a share tampered with": (
        lambda v: replace(v, sealed_shares=v.sealed_shares | {2: flipped(v.sealed_shares[2])}),
        ShareRefused,
        "self mask that party 2 sealed for party 1 does not open",
    ),
}


@pytest.mark.parametrize("case", SURVIVORS)
def test_refused_survivors(five, survivors, case):
    change, error, named = SURVIVORS[case]
    with pytest.raises(error, match=named):
        five.hospitals[1].reveal(1, change(survivors[1]))
    assert set(five.hospitals[1].reveal(1, survivors[1]).shares) == {1, 2, 3, 4, 5}


def test_a_round_key_cannot_be_asked_for_as_a_self_mask(five):
    """The shares of a private key are never opened towards the coordinator."""
    views = five.begin()
    for upload in five.uploads(views).values():
        five.coordinator.add(upload)
    view = five.coordinator.close()[1]
    swapped = replace(view, sealed_shares=view.sealed_shares | {2: views[1].sealed_shares[2]})
    with pytest.raises(ShareRefused, match="self mask that party 2"):
        five.hospitals[1].reveal(1, swapped)


def test_uploads_made_from_another_model_are_not_revealed_for(five):
    """A coordinator that sends one hospital other weights gets nothing from the rest."""
    views = five.begin()
    uploads = {index: five.upload(index, views[index]) for index in (1, 2, 3, 4)}
    uploads[5] = five.upload(5, views[5], model_hash=b"\xff" * 32)
    # A dishonest coordinator does not check, and passes on what it got.
    view = SurvivorView(
        1,
        {i: upload_digest(upload.masked, upload.commitment) for i, upload in uploads.items()},
        {i: upload.signature for i, upload in uploads.items()},
        {i: upload.sealed_shares[1] for i, upload in uploads.items() if i != 1},
    )
    with pytest.raises(SignatureRefused, match="upload of party 5"):
        five.hospitals[1].reveal(1, view)


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
    private_key = hospital._rounds[1].private_key.private_bytes_raw()
    uploads = five.uploads(views)
    assert private_key not in hospital._rounds[1].own_share
    for upload in uploads.values():
        five.coordinator.add(upload)
    hospital.reveal(1, five.coordinator.close()[1])
    assert hospital._rounds == {1: None}


@pytest.mark.parametrize("number", [0, -1, 2**32, True, 1.0, "1"])
def test_what_is_no_round_number_is_refused(session, number):
    with pytest.raises(ProtocolError, match="round number"):
        session.hospitals[1].enrol(number)


def test_fresh_keys_each_round(session):
    first, second = session.hospitals[1].enrol(1), session.hospitals[1].enrol(2)
    assert first.public_key != second.public_key
    assert first.sealed_shares != second.sealed_shares


def test_operating_system_randomness_is_the_default(session):
    hospital = Participant(1, session.parameters, session.identities[1], session.roster)
    again = Participant(1, session.parameters, session.identities[1], session.roster)
    assert hospital.enrol(1).public_key != again.enrol(1).public_key
    assert Identity.generate().public != Identity.generate().public
