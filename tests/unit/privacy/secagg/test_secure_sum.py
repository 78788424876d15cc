"""The coordinator: what it sums, and what it refuses by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import (
    CertificateRefused,
    CohortRefused,
    InputRefused,
    ProtocolError,
    RoundReused,
    SignatureRefused,
)
from privacy.secagg import Echo, MemoryJournal, Participant, Reveal, SecureSum

MODEL_HASH = bytes(range(32))


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
        3, parameters, session.identities[3], session.roster, journal=MemoryJournal()
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
    session = make_session(5, quorum=4)
    uploads = session.uploads(session.begin())
    for index in (1, 3, 4):
        session.coordinator.add(uploads[index])
    assert session.coordinator.missing() == (2, 5)
    with pytest.raises(
        CohortRefused,
        match=r"no upload of parties \[2, 5\] arrived; the 3 others are below the quorum 4",
    ):
        session.coordinator.close()
    session.coordinator.add(uploads[2])
    session.coordinator.add(uploads[5])
    assert set(session.coordinator.close()) == {1, 2, 3, 4, 5}


def test_the_upload_of_a_party_that_was_given_up_comes_too_late(five):
    uploads = five.uploads(five.begin())
    for index in (1, 2, 3, 4):
        five.coordinator.add(uploads[index])
    views = five.coordinator.close()
    total = five.coordinator._round.total.copy()
    with pytest.raises(RoundReused, match="round 1 is closed to uploads"):
        five.coordinator.add(uploads[5])
    assert np.array_equal(five.coordinator._round.total, total)
    certificate = five.certificate(views)
    reveals = [five.hospitals[i].reveal(1, view, certificate) for i, view in views.items()]
    assert five.coordinator.finish(reveals).parties == (1, 2, 3, 4)


def test_a_coordinator_may_ask_for_more_parties_than_the_quorum(five):
    careful = SecureSum(five.parameters, five.roster, least_cohort=5)
    five.coordinator = careful
    enrolments = [hospital.enrol(1) for hospital in five.hospitals.values()]
    with pytest.raises(CohortRefused, match=r"4 parties enrolled .*, below the least cohort 5"):
        careful.begin(1, enrolments=enrolments[:4], model_hash=MODEL_HASH)
    views = careful.begin(1, enrolments=enrolments, model_hash=MODEL_HASH)
    for index in (1, 2, 3, 4):
        careful.add(five.upload(index, views[index]))
    with pytest.raises(CohortRefused, match=r"parties \[5\] arrived; .* below the least cohort 5"):
        careful.close()


def test_echoes_become_a_certificate_at_the_quorum(make_session):
    session = make_session(6, quorum=4)
    views = session.closed_without(6)
    assert session.coordinator.needs_echo
    for index in (1, 3, 4):
        session.coordinator.add_echo(session.hospitals[index].echo(1, views[index]))
    session.coordinator.add_echo(session.hospitals[4].echo(1, views[4]))  # again: harmless
    with pytest.raises(CertificateRefused, match=r"3 of the survivors .* \(\[1, 3, 4\]\), below"):
        session.coordinator.certificate()
    session.coordinator.add_echo(session.hospitals[5].echo(1, views[5]))
    certificate = session.coordinator.certificate()
    assert set(certificate.signatures) == {1, 3, 4, 5}
    # A party that did not echo in time may reveal upon it all the same.
    assert set(session.hospitals[2].reveal(1, views[2], certificate).key_shares) == {6}


def test_steps_come_in_order(session):
    coordinator = session.coordinator
    for step in (coordinator.close, coordinator.missing, lambda: coordinator.finish([])):
        with pytest.raises(ProtocolError, match="no round is open"):
            step()
    upload = session.uploads(session.begin())[1]
    reveal, echo = Reveal(1, 1, {}, {}, b""), Echo(1, 1, (1, 2, 3), b"")
    for step in (
        lambda: coordinator.finish([]),
        lambda: coordinator.verify_reveal(reveal),
        lambda: coordinator.add_echo(echo),
        lambda: coordinator.needs_echo,
        coordinator.certificate,
    ):
        with pytest.raises(ProtocolError, match="round 1 is not closed"):
            step()
    coordinator.add(upload)


def test_a_round_is_finished_once(session):
    reveals = session.to_reveals()
    session.coordinator.finish(reveals)
    with pytest.raises(ProtocolError, match="no round is open"):
        session.coordinator.finish(reveals)


def test_too_few_reveals_are_refused(session):
    reveals = session.to_reveals()
    with pytest.raises(CohortRefused, match=r"2 parties revealed \(\[1, 2\]\), below the quorum 3"):
        session.coordinator.finish(reveals[:2])
    with pytest.raises(CohortRefused, match="party 1 revealed twice"):
        session.coordinator.finish([reveals[0], *reveals])


def test_a_sum_whose_masks_do_not_cancel_is_refused(session):
    reveals = session.to_reveals()
    session.coordinator._round.total[:] += 12345678
    with pytest.raises(ProtocolError, match="masks did not cancel"):
        session.coordinator.finish(reveals)
