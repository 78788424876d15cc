"""The coordinator: what it sums, and what it refuses by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import (
    CohortRefused,
    InputRefused,
    ProtocolError,
    RoundReused,
    ShareRefused,
    SignatureRefused,
)
from privacy.secagg import Participant, Reveal
from privacy.secagg.context import reveal_statement

MODEL_HASH = bytes(range(32))


def without(mapping, index):
    return {key: value for key, value in mapping.items() if key != index}


@settings(deadline=None, max_examples=25)
@given(
    parties=st.sampled_from([3, 4, 5, 10]),
    dimension=st.integers(0, 40),
    counters=st.integers(0, 5),
    bits=st.sampled_from([8, 12, 16, 20, 24]),
    clip=st.sampled_from([0.05, 1.0, 7.5]),
    max_weight=st.sampled_from([1, 1000, 2**32 - 1]),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums(make_session, parties, dimension, counters, bits, clip, max_weight, seed):
    """Weights and counts are exact; the mean is off by at most a step of each party."""
    session = make_session(
        parties,
        seed=seed,
        dimension=dimension,
        counters=counters,
        bits=bits,
        clip=clip,
        max_weight=max_weight,
    )
    generator = np.random.default_rng(seed)
    vectors = generator.normal(0, clip, (parties, dimension)).astype(np.float32)
    weights = [int(weight) for weight in generator.integers(1, max_weight + 1, parties)]
    counts = generator.integers(0, 2**32, (parties, counters))
    result = session.run(vectors, weights, counts)
    assert result.parties == tuple(range(1, parties + 1))
    assert result.weight == sum(weights)
    assert result.counts.tolist() == counts.sum(0).tolist()
    assert (result.mean.dtype, result.mean.shape) == (np.float32, (dimension,))
    clipped = np.clip(vectors.astype(np.float64), -clip, clip)
    exact = (np.array(weights, np.float64) / sum(weights)) @ clipped
    bound = parties * session.parameters.step * max_weight / sum(weights)
    rounding = clip * 2**-23  # the mean itself is a float32
    assert np.abs(result.mean - exact).max(initial=0) <= bound + rounding


@pytest.mark.parametrize("parties", [3, 4, 5, 10, 30])
def test_equal_weights_are_off_by_at_most_one_step(make_session, parties):
    session = make_session(parties, dimension=2000)
    vectors = np.random.default_rng(parties).uniform(-1, 1, (parties, 2000)).astype(np.float32)
    counts = np.arange(2 * parties).reshape(parties, 2)
    result = session.run(vectors, [1] * parties, counts)
    exact = vectors.astype(np.float64).mean(0)
    assert np.abs(result.mean - exact).max() <= session.parameters.step + 2**-24
    assert result.weight == parties
    assert result.counts.tolist() == counts.sum(0).tolist()


@pytest.mark.parametrize("parties", [3, 4, 5, 10, 30])
def test_whole_steps_add_up_exactly(make_session, parties):
    session = make_session(parties, dimension=500, bits=12, clip=2047.0)
    vectors = np.random.default_rng(1).integers(-2047, 2048, (parties, 500)).astype(np.float32)
    result = session.run(vectors, [1] * parties, np.zeros((parties, 2), np.int64))
    assert np.array_equal(
        result.mean, (vectors.astype(np.float64).sum(0) / parties).astype(np.float32)
    )


def test_a_session_has_many_rounds(make_session):
    session = make_session(3)
    for number in (1, 2, 7):
        vectors = np.full((3, 10), number / 10, np.float32)
        result = session.run(vectors, [1] * 3, [[number, 0]] * 3, number)
        assert result.mean == pytest.approx(number / 10, abs=2 * session.parameters.step)
        assert result.counts.tolist() == [3 * number, 0]


def test_a_cohort_may_be_smaller_than_the_roster(make_session):
    session = make_session(5, quorum=4)
    del session.hospitals[2]
    result = session.run(np.ones((5, 10), np.float32), [1] * 5, np.ones((5, 2), np.int64))
    assert result.parties == (1, 3, 4, 5)
    assert result.weight == 4
    assert result.mean.tolist() == [1.0] * 10


def test_a_quorum_of_reveals_is_enough(make_session):
    session = make_session(5, quorum=4)
    reveals = session.to_reveals()
    assert session.coordinator.finish(reveals[1:]).weight == 5


ENROLMENTS = {
    "another round": (
        lambda e: replace(e, round_number=2),
        CohortRefused,
        "enrolment of party 2: it is for round 2, not for round 1",
    ),
    "a stranger": (lambda e: replace(e, index=4), CohortRefused, "of party 4: the party is not"),
    "another's name": (lambda e: replace(e, index=3), CohortRefused, "enrolment of party 3"),
    "unsigned": (lambda e: replace(e, signature=b""), SignatureRefused, "enrolment of party 2"),
    "a replaced key": (
        lambda e: replace(e, public_key=bytes(32)),
        SignatureRefused,
        "enrolment of party 2: the signature does not verify",
    ),
    "a short key": (
        lambda e: replace(e, public_key=bytes(31)),
        CohortRefused,
        "enrolment of party 2: public_key: 32 bytes are needed, not 31",
    ),
    "a share too few": (
        lambda e: replace(e, sealed_shares=without(e.sealed_shares, 3)),
        CohortRefused,
        r"shares are given for \[1\], needed for \[1, 3\]",
    ),
    "a share too many": (
        lambda e: replace(e, sealed_shares=e.sealed_shares | {2: bytes(61)}),
        CohortRefused,
        r"shares are given for \[1, 2, 3\]",
    ),
    "a short share": (
        lambda e: replace(e, sealed_shares=e.sealed_shares | {3: bytes(60)}),
        CohortRefused,
        "share of party 3: 61 bytes are needed, not 60",
    ),
}


@pytest.mark.parametrize("case", ENROLMENTS)
def test_refused_enrolments(session, enrolments, case):
    change, error, named = ENROLMENTS[case]
    bad = change(enrolments[1])
    with pytest.raises(error, match=named):
        session.coordinator.verify_enrolment(1, bad)
    with pytest.raises(error, match=named):
        session.coordinator.begin(
            1, enrolments=[enrolments[0], bad, enrolments[2]], model_hash=MODEL_HASH
        )
    # Nothing was opened: the round begins with what is right.
    assert set(session.coordinator.begin(1, enrolments=enrolments, model_hash=MODEL_HASH)) == {
        1,
        2,
        3,
    }


def test_refused_cohorts(session, enrolments):
    begin = session.coordinator.begin
    with pytest.raises(CohortRefused, match=r"2 parties enrolled \(\[1, 2\]\), below the quorum 3"):
        begin(1, enrolments=enrolments[:2], model_hash=MODEL_HASH)
    with pytest.raises(CohortRefused, match="party 1 enrolled twice"):
        begin(1, enrolments=[*enrolments, enrolments[0]], model_hash=MODEL_HASH)
    with pytest.raises(InputRefused, match="model_hash"):
        begin(1, enrolments=enrolments, model_hash=b"")
    with pytest.raises(ProtocolError, match="round number: 0"):
        begin(0, enrolments=enrolments, model_hash=MODEL_HASH)


def test_round_numbers_only_grow(session):
    session.begin(5)
    for number in (5, 4):
        with pytest.raises(RoundReused, match=f"round {number} does not follow round 5"):
            session.coordinator.begin(number, enrolments=[], model_hash=MODEL_HASH)


UPLOADS = {
    "another round": (lambda u: replace(u, round_number=2), CohortRefused, "it is for round 2"),
    "a stranger": (lambda u: replace(u, index=4), CohortRefused, "party 4: the party is not among"),
    "another's name": (lambda u: replace(u, index=3), CohortRefused, "upload of party 3"),
    "unsigned": (lambda u: replace(u, signature=b""), SignatureRefused, "upload of party 2"),
    "a changed vector": (
        lambda u: replace(u, masked=u.masked + u.masked.dtype.type(1)),
        SignatureRefused,
        "upload of party 2: the signature does not verify",
    ),
    "another commitment": (
        lambda u: replace(u, commitment=bytes(32)),
        SignatureRefused,
        "upload of party 2",
    ),
    "a short commitment": (
        lambda u: replace(u, commitment=bytes(31)),
        CohortRefused,
        "upload of party 2: commitment: 32 bytes are needed, not 31",
    ),
    "a short vector": (
        lambda u: replace(u, masked=u.masked[:-1]),
        InputRefused,
        r"upload of party 2: uint32 \(21,\) does not fit the agreed uint32 \(22,\)",
    ),
    "another shape": (lambda u: replace(u, masked=u.masked[None]), InputRefused, r"\(1, 22\)"),
    "another type": (
        lambda u: replace(u, masked=u.masked.astype(np.uint64)),
        InputRefused,
        "upload of party 2: uint64",
    ),
    "a share too few": (
        lambda u: replace(u, sealed_shares=without(u.sealed_shares, 3)),
        CohortRefused,
        r"shares are given for \[1\]",
    ),
    "a long share": (
        lambda u: replace(u, sealed_shares=u.sealed_shares | {3: bytes(62)}),
        CohortRefused,
        "61 bytes are needed, not 62",
    ),
}


@pytest.mark.parametrize("case", UPLOADS)
def test_refused_uploads(session, case):
    change, error, named = UPLOADS[case]
    uploads = session.uploads(session.begin())
    with pytest.raises(error, match=named):
        session.coordinator.add(change(uploads[2]))
    # Nothing was added: the honest uploads still give the sum.
    for upload in uploads.values():
        session.coordinator.add(upload)
    views = session.coordinator.close()
    reveals = [session.hospitals[index].reveal(1, view) for index, view in views.items()]
    assert session.coordinator.finish(reveals).weight == 3


def test_an_upload_from_another_model_is_named(session):
    upload = session.upload(3, session.begin()[3], model_hash=b"\xff" * 32)
    with pytest.raises(SignatureRefused, match=r"upload of party 3: .* holds another key, model"):
        session.coordinator.add(upload)


def test_an_upload_for_another_round_cannot_be_replayed(session):
    earlier = session.uploads(session.begin(1))[3]
    session.begin(2)
    with pytest.raises(SignatureRefused, match="upload of party 3"):
        session.coordinator.add(replace(earlier, round_number=2))


@pytest.mark.parametrize(
    "change", [{"clip": 2.0}, {"bits": 19}, {"max_weight": 2}, {"session": b"\1" * 16}]
)
def test_a_party_with_other_parameters_is_named(make_session, change):
    """Masks depend on the parameters, so the coordinator cannot make a party relax them."""
    session = make_session(3)
    parameters = replace(session.parameters, **change)
    session.hospitals[3] = Participant(
        3, parameters, session.identities[3], session.roster, np.random.default_rng(5).bytes
    )
    if "session" in change:
        with pytest.raises(SignatureRefused, match="enrolment of party 3"):
            session.begin()
    else:
        upload = session.upload(3, session.begin()[3])
        with pytest.raises(SignatureRefused, match="upload of party 3"):
            session.coordinator.add(upload)


def test_a_strided_vector_is_accepted(session):
    uploads = session.uploads(session.begin())
    twice = np.repeat(uploads[1].masked, 2)[::2]
    assert not twice.flags.c_contiguous
    session.coordinator.add(replace(uploads[1], masked=twice))
    assert session.coordinator.missing() == (2, 3)


def test_uploads_arrive_once_and_before_the_close(session):
    uploads = session.uploads(session.begin())
    session.coordinator.add(uploads[1])
    with pytest.raises(RoundReused, match="party 1 has uploaded in round 1 before"):
        session.coordinator.add(uploads[1])
    session.coordinator.add(uploads[2])
    session.coordinator.add(uploads[3])
    session.coordinator.close()
    with pytest.raises(RoundReused, match="round 1 is closed"):
        session.coordinator.add(uploads[3])


def test_missing_parties_are_named(make_session):
    session = make_session(5)
    uploads = session.uploads(session.begin())
    for index in (1, 3, 4):
        session.coordinator.add(uploads[index])
    assert session.coordinator.missing() == (2, 5)
    with pytest.raises(CohortRefused, match=r"round 1: no upload of parties \[2, 5\] arrived"):
        session.coordinator.close()
    session.coordinator.add(uploads[2])
    session.coordinator.add(uploads[5])
    assert set(session.coordinator.close()) == {1, 2, 3, 4, 5}


def test_steps_come_in_order(session):
    coordinator = session.coordinator
    for step in (coordinator.close, coordinator.missing, lambda: coordinator.finish([])):
        with pytest.raises(ProtocolError, match="no round is open"):
            step()
    upload = session.uploads(session.begin())[1]
    reveal = Reveal(1, 1, {}, b"")
    for step in (lambda: coordinator.finish([]), lambda: coordinator.verify_reveal(reveal)):
        with pytest.raises(ProtocolError, match="round 1 is not closed"):
            step()
    coordinator.add(upload)


def test_a_round_is_finished_once(session):
    reveals = session.to_reveals()
    session.coordinator.finish(reveals)
    with pytest.raises(ProtocolError, match="no round is open"):
        session.coordinator.finish(reveals)


REVEALS = {
    "another round": (lambda r: replace(r, round_number=2), CohortRefused, "it is for round 2"),
    "a stranger": (lambda r: replace(r, index=4), CohortRefused, "reveal of party 4"),
    "another's name": (lambda r: replace(r, index=3), SignatureRefused, "reveal of party 3"),
    "unsigned": (lambda r: replace(r, signature=b""), SignatureRefused, "reveal of party 2"),
    "a changed share": (
        lambda r: replace(r, shares=r.shares | {1: bytes(33)}),
        SignatureRefused,
        "reveal of party 2",
    ),
    "a short share": (
        lambda r: replace(r, shares=r.shares | {1: bytes(32)}),
        CohortRefused,
        "reveal of party 2: share of party 1: 33 bytes are needed, not 32",
    ),
    "a share too few": (
        lambda r: replace(r, shares=without(r.shares, 1)),
        CohortRefused,
        r"shares are given for \[2, 3\]",
    ),
}


@pytest.mark.parametrize("case", REVEALS)
def test_refused_reveals(session, case):
    change, error, named = REVEALS[case]
    reveals = session.to_reveals()
    bad = change(reveals[1])
    with pytest.raises(error, match=named):
        session.coordinator.verify_reveal(bad)
    with pytest.raises(error, match=named):
        session.coordinator.finish([reveals[0], bad, reveals[2]])
    assert session.coordinator.finish(reveals).weight == 3


def test_too_few_reveals_are_refused(session):
    reveals = session.to_reveals()
    with pytest.raises(CohortRefused, match=r"2 parties revealed \(\[1, 2\]\), below the quorum 3"):
        session.coordinator.finish(reveals[:2])
    with pytest.raises(CohortRefused, match="party 1 revealed twice"):
        session.coordinator.finish([reveals[0], *reveals])


@pytest.mark.parametrize(
    ("share", "named"),
    [
        (bytes(32) + b"\1", "shares of party 1's self mask .* do not give what it committed to"),
        (b"\xff" * 33, "the share of party 2 is no element of the field"),
    ],
)
def test_a_wrong_share_that_its_sender_signed_is_found(session, share, named):
    """Without the commitment the sum would be noise and nobody would know why."""
    reveals = session.to_reveals()
    context = session.coordinator._round.context
    shares = reveals[1].shares | {1: share}
    signature = session.identities[2].signing.sign(reveal_statement(context, 2, shares))
    with pytest.raises(ShareRefused, match=named):
        session.coordinator.finish([reveals[0], Reveal(2, 1, shares, signature), reveals[2]])
    assert session.coordinator.finish(reveals).weight == 3


def test_a_sum_whose_masks_do_not_cancel_is_refused(session):
    reveals = session.to_reveals()
    session.coordinator._round.total[:] += 12345678
    with pytest.raises(ProtocolError, match="masks did not cancel"):
        session.coordinator.finish(reveals)
