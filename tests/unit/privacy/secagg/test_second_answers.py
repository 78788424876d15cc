"""A second answer, no true certificate, too small a company: what a hospital refuses next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from privacy.errors import (
    CertificateRefused,
    CohortRefused,
    ProtocolError,
    RoundReused,
    SignatureRefused,
)
from privacy.secagg import Certificate, CohortView, MemoryJournal, Participant


@dataclass(frozen=True)
class Attack:
    """What is changed in the certificate, given the view, and the refusal that it meets."""

    change: Callable[..., Any]
    error: type[ProtocolError]
    words: str


def without(mapping: Mapping[int, Any], *indices: int) -> dict[int, Any]:
    return {key: value for key, value in mapping.items() if key not in indices}


def leaves_out(view: CohortView, *indices: int) -> CohortView:
    return replace(
        view,
        public_keys=without(view.public_keys, *indices),
        signatures=without(view.signatures, *indices),
        share_commitments=without(view.share_commitments, *indices),
        sealed_shares=without(view.sealed_shares, *indices),
    )


CERTIFICATES = {
    "none": Attack(
        lambda c, s: None, CertificateRefused, "lost parties: a certificate of 4 echoes is needed"
    ),
    "of another round": Attack(
        lambda c, s: replace(c, round_number=2), CertificateRefused, "is of round 2, not of round 1"
    ),
    "of other survivors": Attack(
        lambda c, s: replace(c, survivors=(1, 2, 3, 5)),
        CertificateRefused,
        r"is of survivors \[1, 2, 3, 5\], the view shows \[1, 2, 3, 4\]",
    ),
    "of too few": Attack(
        lambda c, s: replace(c, signatures=without(c.signatures, 2)),
        CertificateRefused,
        "holds 3 echoes, below the quorum 4",
    ),
    "of one that was dropped": Attack(
        lambda c, s: replace(c, signatures=without(c.signatures, 2) | {5: bytes(64)}),
        CertificateRefused,
        r"holds echoes of \[5\], which are not among the survivors",
    ),
    "with an echo forged": Attack(
        lambda c, s: replace(c, signatures=c.signatures | {3: bytes(64)}),
        SignatureRefused,
        "echo of party 3",
    ),
    "with one party's echo twice": Attack(
        lambda c, s: replace(c, signatures=c.signatures | {3: c.signatures[2]}),
        SignatureRefused,
        "echo of party 3",
    ),
    "with an upload in an echo's place": Attack(
        lambda c, s: replace(c, signatures=c.signatures | {3: s.signatures[3]}),
        SignatureRefused,
        "echo of party 3",
    ),
}


@pytest.mark.parametrize("case", CERTIFICATES)
def test_no_reveal_upon_a_certificate(five: Any, case: str) -> None:
    attack = CERTIFICATES[case]
    views = five.closed_without(5)
    certificate = five.certificate(views)
    with pytest.raises(attack.error, match=attack.words):
        five.hospitals[1].reveal(1, views[1], attack.change(certificate, views[1]))
    assert set(five.hospitals[1].reveal(1, views[1], certificate).key_shares) == {5}


def test_an_echo_of_an_earlier_round_does_not_certify(five: Any) -> None:
    earlier = five.certificate(five.closed_without(5))
    views = {}
    for index, view in five.begin(2).items():
        if index != 5:
            five.coordinator.add(five.upload(index, view, round_number=2))
    views = five.coordinator.close()
    with pytest.raises(SignatureRefused, match="echo of party 1"):
        five.hospitals[1].reveal(2, views[1], replace(earlier, round_number=2))


SEQUENCES = {
    "an echo, then an echo for another set": (
        lambda h, whole, part, c: (h.echo(1, part), h.echo(1, whole)),
        r"accepted the survivors \[1, 2, 3, 4, 5\] in round 1 and answers for no second set",
    ),
    "an echo, then a reveal for another set": (
        lambda h, whole, part, c: (h.echo(1, part), h.reveal(1, whole)),
        r"accepted the survivors \[1, 2, 3, 4, 5\]",
    ),
    "an echo for all, then a reveal for fewer": (
        lambda h, whole, part, c: (h.echo(1, whole), h.reveal(1, part, c)),
        r"accepted the survivors \[1, 2, 3, 4, 5, 6\]",
    ),
    "an echo for all, then an echo for fewer": (
        lambda h, whole, part, c: (h.echo(1, whole), h.echo(1, part)),
        r"accepted the survivors \[1, 2, 3, 4, 5, 6\]",
    ),
    "a reveal for all, then an echo for fewer": (
        lambda h, whole, part, c: (h.reveal(1, whole), h.echo(1, part)),
        "has revealed in round 1 before",
    ),
    "a reveal for all, then a reveal for fewer": (
        lambda h, whole, part, c: (h.reveal(1, whole), h.reveal(1, part, c)),
        "has revealed in round 1 before",
    ),
    "a reveal for fewer, then a reveal for all": (
        lambda h, whole, part, c: (h.reveal(1, part, c), h.reveal(1, whole)),
        "has revealed in round 1 before",
    ),
    "a reveal, then the same reveal": (
        lambda h, whole, part, c: (h.reveal(1, whole), h.reveal(1, whole)),
        "has revealed in round 1 before",
    ),
    "a reveal, then the same round anew": (
        lambda h, whole, part, c: (h.reveal(1, whole), h.enrol(1)),
        "has enrolled in round 1 before",
    ),
}


@pytest.mark.parametrize("case", SEQUENCES)
def test_no_second_answer_after(make_session: Any, case: str) -> None:
    """All six have uploaded; party 1 is shown that, and also that party 6 has not."""
    attempt, words = SEQUENCES[case]
    six = make_session(6, quorum=4)
    views = six.closed_without()
    parts = {i: six.dropping(views[i], 6) for i in (1, 2, 3, 4, 5)}
    echoes = {i: six.hospitals[i].echo(1, parts[i]).signature for i in (2, 3, 4, 5)}
    certificate = Certificate(1, (1, 2, 3, 4, 5), echoes)
    with pytest.raises(RoundReused, match=words):
        attempt(six.hospitals[1], views[1], parts[1], certificate)
    # Whatever the coordinator does now, it does not get both kinds of party 6's shares four times.
    assert six.hospitals[2].reveal(1, parts[2], certificate).key_shares.keys() == {6}
    with pytest.raises(RoundReused):
        six.hospitals[3].reveal(1, views[3])


def test_an_echo_may_be_said_again(five: Any) -> None:
    views = five.closed_without(5)
    assert five.hospitals[1].echo(1, views[1]) == five.hospitals[1].echo(1, views[1])


def test_a_hospital_may_ask_for_more_company_than_the_quorum(five: Any) -> None:
    careful = Participant(
        1,
        five.parameters,
        five.identities[1],
        five.roster,
        journal=MemoryJournal(),
        least_cohort=5,
    )
    five.hospitals[1] = careful
    views = five.begin()
    with pytest.raises(CohortRefused, match="cohort: 4 parties are below the 5 that party 1 asks"):
        five.upload(1, leaves_out(views[1], 5))
    for upload in five.uploads(views).values():
        if upload.index != 5:
            five.coordinator.add(upload)
    views = five.coordinator.close()
    with pytest.raises(CohortRefused, match="survivors: 4 parties are below the 5 that party 1"):
        careful.echo(1, views[1])
