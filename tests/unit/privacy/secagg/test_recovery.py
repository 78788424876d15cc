"""Wrong shares: who changed one is named, and the sum is found from the others'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy.errors import ShareRefused
from privacy.secagg import Reveal, ShareFault
from privacy.secagg.context import (
    enrolment_statement,
    reveal_statement,
    share_commitment,
    upload_digest,
    upload_statement,
    vector_digest,
)
from privacy.secagg.sealing import ROUND_KEY, SELF_MASK
from privacy.secagg.shamir import PRIME, split

WRONG = bytes(32) + b"\1"


@pytest.fixture
def six(make_session: Any) -> Any:
    return make_session(6, quorum=4)


def resigned(session: Any, reveal: Reveal, **changes: Mapping[int, bytes]) -> Reveal:
    """A reveal that its own sender has changed."""
    changed = replace(reveal, **changes)
    tally = session.coordinator._round
    statement = reveal_statement(
        tally.context,
        changed.index,
        tally.survivors,
        shares=changed.shares,
        key_shares=changed.key_shares,
    )
    return replace(changed, signature=session.identities[changed.index].signing.sign(statement))


@pytest.mark.parametrize("share", [WRONG, b"\xff" * 33, PRIME.to_bytes(33, "big")])
def test_one_wrong_share_of_a_seed_is_named_and_done_without(six: Any, share: bytes) -> None:
    reveals = six.to_reveals()
    reveals[1] = resigned(six, reveals[1], shares=reveals[1].shares | {4: share})
    result = six.coordinator.finish(reveals)
    assert result.faults == (ShareFault(revealer=2, dealer=4, reason="mismatch"),)
    assert (result.weight, result.parties) == (6, (1, 2, 3, 4, 5, 6))
    assert result.mean.tolist() == [0.0] * 10


def test_one_wrong_share_of_a_key_is_named_and_done_without(six: Any) -> None:
    reveals = six.to_reveals(6)
    reveals[0] = resigned(six, reveals[0], key_shares={6: WRONG})
    result = six.coordinator.finish(reveals)
    assert result.faults == (ShareFault(revealer=1, dealer=6, reason="mismatch"),)
    assert (result.weight, result.parties) == (5, (1, 2, 3, 4, 5))


def test_every_wrong_share_is_named(six: Any) -> None:
    reveals = six.to_reveals()
    reveals[1] = resigned(six, reveals[1], shares=dict.fromkeys(range(1, 7), WRONG))
    reveals[4] = resigned(six, reveals[4], shares=reveals[4].shares | {3: WRONG})
    left_out = {dealer: share for dealer, share in reveals[5].shares.items() if dealer != 1}
    reveals[5] = resigned(six, reveals[5], shares=left_out)
    faults = six.coordinator.finish(reveals).faults
    assert set(faults) == {
        *(ShareFault(2, dealer, "mismatch") for dealer in range(1, 7)),
        ShareFault(5, 3, "mismatch"),
        ShareFault(6, 1, "missing"),
    }
    assert len(faults) == 8


def test_too_few_right_shares_name_those_who_changed_theirs(six: Any) -> None:
    reveals = six.to_reveals()
    changed = [
        resigned(six, reveal, shares=reveal.shares | {4: WRONG}) if i in (0, 2, 4) else reveal
        for i, reveal in enumerate(reveals)
    ]
    with pytest.raises(
        ShareRefused,
        match=r"party 4's self mask: 3 right shares .* quorum 4; parties \[1, 3, 5\] revealed none",
    ):
        six.coordinator.finish(changed)
    # The sum is as it was: the right reveals still give it.
    assert six.coordinator.finish(reveals).weight == 6


def test_too_few_right_shares_of_a_key_name_those_who_changed_theirs(six: Any) -> None:
    reveals = six.to_reveals(6)
    changed = [
        resigned(six, reveal, key_shares={6: WRONG}) if i < 2 else reveal
        for i, reveal in enumerate(reveals)
    ]
    with pytest.raises(ShareRefused, match=r"party 6's round key: 3 right .* parties \[1, 2\]"):
        six.coordinator.finish(changed)
    assert six.coordinator.finish(reveals).weight == 5


NO_SECRET = (2**256 + 5).to_bytes(33, "big")  # in the field, but above every secret


def dealt_wrongly(
    session: Any, secret: bytes | None, purpose: bytes, dealer: int, quorum: int
) -> Any:
    """Shares of another secret, or on another polynomial, sealed and committed to by the rules."""
    hospital = session.hospitals[dealer]
    shares = dict.fromkeys(session.parameters.roster, NO_SECRET)
    if secret is not None:
        shares = split(
            secret,
            quorum=quorum,
            indices=session.parameters.roster,
            randomness=session.generator.bytes,
        )
    sealed = {
        other: hospital._dealer._sealer.seal(share, purpose=purpose, round_number=1, receiver=other)
        for other, share in shares.items()
        if other != dealer
    }
    commitments = {
        receiver: share_commitment(
            share,
            purpose=purpose,
            session=session.parameters.session,
            round_number=1,
            dealer=dealer,
            receiver=receiver,
        )
        for receiver, share in shares.items()
    }
    return shares, sealed, commitments


@pytest.mark.parametrize(
    ("secret", "quorum"),
    [(b"\7" * 32, 4), (b"\7" * 32, 6), (None, 4)],
    ids=["another", "on another polynomial", "none"],
)
def test_a_dealer_that_shared_another_seed_is_named(
    six: Any, secret: bytes | None, quorum: int
) -> None:
    views = six.begin()
    uploads = six.uploads(views)
    shares, sealed, commitments = dealt_wrongly(six, secret, SELF_MASK, 3, quorum)
    content = upload_digest(
        vector_digest(uploads[3].masked, ()), uploads[3].commitment, commitments
    )
    statement = upload_statement(six.coordinator._round.context, 3, content)
    uploads[3] = replace(
        uploads[3],
        sealed_shares=sealed,
        share_commitments=commitments,
        signature=six.identities[3].signing.sign(statement),
    )
    for upload in uploads.values():
        six.coordinator.add(upload)
    survivors = six.coordinator.close()
    reveals = [six.hospitals[i].reveal(1, v) for i, v in survivors.items() if i != 3]
    assert all(reveal.shares[3] == shares[reveal.index] for reveal in reveals)
    with pytest.raises(ShareRefused, match=r"^party 3 broke the rules: .* its self mask"):
        six.coordinator.finish(reveals)


def test_a_dealer_that_shared_another_key_and_left_is_named(six: Any) -> None:
    enrolments = [hospital.enrol(1) for hospital in six.hospitals.values()]
    _, sealed, commitments = dealt_wrongly(six, b"\7" * 32, ROUND_KEY, 6, 4)
    key = enrolments[5].public_key
    statement = enrolment_statement(six.parameters.session, 1, 6, key, commitments)
    enrolments[5] = replace(
        enrolments[5],
        sealed_shares=sealed,
        share_commitments=commitments,
        signature=six.identities[6].signing.sign(statement),
    )
    views = six.coordinator.begin(1, enrolments=enrolments, model_hash=bytes(range(32)))
    for index in range(1, 6):
        six.coordinator.add(six.upload(index, views[index]))
    survivors = six.coordinator.close()
    certificate = six.certificate(survivors)
    reveals = [six.hospitals[i].reveal(1, v, certificate) for i, v in survivors.items()]
    with pytest.raises(ShareRefused, match=r"^party 6 broke the rules: .* its round key"):
        six.coordinator.finish(reveals)


def test_a_dealer_whose_sealed_share_is_not_the_committed_one_is_done_without(six: Any) -> None:
    """Party 2 sealed one thing and committed to another: the receiver goes on without it."""
    enrolments = [hospital.enrol(1) for hospital in six.hospitals.values()]
    _, sealed, _ = dealt_wrongly(six, b"\7" * 32, ROUND_KEY, 2, 4)
    enrolments[1] = replace(
        enrolments[1], sealed_shares=enrolments[1].sealed_shares | {5: sealed[5]}
    )
    views = six.coordinator.begin(1, enrolments=enrolments, model_hash=bytes(range(32)))
    for index in (1, 3, 4, 5, 6):
        six.coordinator.add(six.upload(index, views[index]))
    assert six.coordinator.bad_dealers() == {1: (), 3: (), 4: (), 5: (2,), 6: ()}
    survivors = six.coordinator.close()
    certificate = six.certificate(survivors)
    reveals = [six.hospitals[i].reveal(1, v, certificate) for i, v in survivors.items()]
    result = six.coordinator.finish(reveals)
    assert result.faults == (ShareFault(5, 2, "missing"),)
    assert (result.weight, result.parties) == (5, (1, 3, 4, 5, 6))
    assert np.array_equal(result.mean, np.zeros(10, np.float32))


def test_weights_are_computed_once_for_each_set_of_revealers(
    make_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from privacy.secagg import recovery

    asked: list[tuple[int, ...]] = []
    original = recovery.weights_at_zero

    def counting(indices: tuple[int, ...]) -> dict[int, int]:
        asked.append(tuple(indices))
        return original(indices)

    monkeypatch.setattr(recovery, "weights_at_zero", counting)
    session = make_session(10)
    reveals = session.to_reveals(4)
    assert session.coordinator.finish(reveals).weight == 9
    assert asked == [(1, 2, 3, 5, 6, 7)]
