"""What a hospital refuses: each row changes one thing in an honest round of five."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from privacy.errors import (
    CohortRefused,
    ParametersRefused,
    ProtocolError,
    SignatureRefused,
)
from privacy.secagg import (
    CohortView,
    SumParameters,
)


@dataclass(frozen=True)
class Attack:
    """What is changed, and the refusal that it meets."""

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


def recommitted(view: Any, commitment: bytes) -> dict[int, Any]:
    """The share commitments with one of party 2's replaced."""
    commitments: dict[int, Any] = dict(view.share_commitments)
    return commitments | {2: commitments[2] | {3: commitment}}


COHORTS = {
    "of another round": Attack(
        lambda v: replace(v, round_number=2),
        CohortRefused,
        "the view is of round 2, not of round 1",
    ),
    "without this party": Attack(lambda v: leaves_out(v, 1), CohortRefused, "leaves out party 1"),
    "below the quorum": Attack(
        lambda v: leaves_out(v, 4, 5), CohortRefused, "3 parties are below the quorum 4"
    ),
    "with a signature too few": Attack(
        lambda v: replace(v, signatures=without(v.signatures, 2)),
        CohortRefused,
        "does not hold one signature and one set of share commitments of each",
    ),
    "with a share too few": Attack(
        lambda v: replace(v, sealed_shares=without(v.sealed_shares, 2)),
        CohortRefused,
        "one share of each but party 1",
    ),
    "with commitments too few": Attack(
        lambda v: replace(v, share_commitments=without(v.share_commitments, 2)),
        CohortRefused,
        "one set of share commitments of each",
    ),
    "with a stranger": Attack(
        lambda v: replace(
            v,
            public_keys=v.public_keys | {9: bytes(32)},
            signatures=v.signatures | {9: bytes(64)},
            share_commitments=v.share_commitments | {9: v.share_commitments[2]},
            sealed_shares=v.sealed_shares | {9: bytes(61)},
        ),
        CohortRefused,
        r"parties \[9\] are not in the roster",
    ),
    "with this party's key replaced": Attack(
        lambda v: replace(v, public_keys=v.public_keys | {1: os.urandom(32)}),
        SignatureRefused,
        "the key shown for party 1 is not the one it sent",
    ),
    "with another's key replaced": Attack(
        lambda v: replace(v, public_keys=v.public_keys | {2: os.urandom(32)}),
        SignatureRefused,
        "enrolment of party 2: the signature does not verify",
    ),
    "with an unsigned key": Attack(
        lambda v: replace(v, signatures=v.signatures | {3: b""}),
        SignatureRefused,
        "enrolment of party 3",
    ),
    "with keys swapped": Attack(
        lambda v: replace(
            v,
            public_keys=v.public_keys | {2: v.public_keys[3], 3: v.public_keys[2]},
            signatures=v.signatures | {2: v.signatures[3], 3: v.signatures[2]},
        ),
        SignatureRefused,
        "enrolment of party 2",
    ),
    "with a share commitment replaced": Attack(
        lambda v: replace(v, share_commitments=recommitted(v, bytes(32))),
        SignatureRefused,
        "enrolment of party 2",
    ),
    "with a share commitment cut": Attack(
        lambda v: replace(v, share_commitments=recommitted(v, bytes(31))),
        CohortRefused,
        r"share commitments of party 2: 32 bytes are needed for each of \[1, 2, 3, 4, 5\]",
    ),
}


@pytest.mark.parametrize("case", COHORTS)
def test_no_upload_for_a_cohort(five: Any, case: str) -> None:
    attack = COHORTS[case]
    views = five.begin()
    with pytest.raises(attack.error, match=attack.words):
        five.upload(1, attack.change(views[1]))
    # Nothing was said and nothing changed: the honest view still works.
    five.coordinator.add(five.upload(1, views[1]))


SURVIVORS = {
    "of another round": Attack(
        lambda v, s: replace(v, round_number=2), CohortRefused, "the view is of round 2"
    ),
    "without this party": Attack(
        lambda v, s: s.dropping(v, 1), CohortRefused, "leaves out party 1"
    ),
    "below the quorum": Attack(
        lambda v, s: s.dropping(v, 4), CohortRefused, "3 parties are below the quorum 4"
    ),
    "with one passed over in silence": Attack(
        lambda v, s: replace(v, dropped=()),
        CohortRefused,
        r"\[1, 2, 3, 4\] and dropped \[\] are not the cohort",
    ),
    "with a survivor also called dropped": Attack(
        lambda v, s: replace(v, dropped=(3, 5)),
        CohortRefused,
        r"parties \[3\] are shown as survivors and as dropped",
    ),
    "with a stranger": Attack(
        lambda v, s: replace(v, vector_digests=v.vector_digests | {9: bytes(32)}),
        CohortRefused,
        r"\[1, 2, 3, 4, 9\] and dropped \[5\] are not the cohort",
    ),
    "with a stranger dropped": Attack(
        lambda v, s: replace(v, dropped=(5, 9)), CohortRefused, "are not the cohort"
    ),
    "with a signature too few": Attack(
        lambda v, s: replace(v, signatures=without(v.signatures, 2)),
        CohortRefused,
        "does not hold one signature",
    ),
    "with a share too few": Attack(
        lambda v, s: replace(v, sealed_shares=without(v.sealed_shares, 2)),
        CohortRefused,
        "one share of each but party 1",
    ),
    "with a seed commitment too few": Attack(
        lambda v, s: replace(v, commitments=without(v.commitments, 2)),
        CohortRefused,
        "lacks a seed commitment",
    ),
    "with an unsigned upload": Attack(
        lambda v, s: replace(v, signatures=v.signatures | {3: b""}),
        SignatureRefused,
        "upload of party 3",
    ),
    "with another vector": Attack(
        lambda v, s: replace(v, vector_digests=v.vector_digests | {3: bytes(32)}),
        SignatureRefused,
        "upload of party 3",
    ),
    "with another seed": Attack(
        lambda v, s: replace(v, commitments=v.commitments | {3: bytes(32)}),
        SignatureRefused,
        "upload of party 3",
    ),
    "with another share of a seed": Attack(
        lambda v, s: replace(v, share_commitments=recommitted(v, bytes(32))),
        SignatureRefused,
        "upload of party 2",
    ),
    "with a share commitment cut": Attack(
        lambda v, s: replace(v, share_commitments=recommitted(v, b"")),
        CohortRefused,
        "share commitments of party 2: 32 bytes are needed",
    ),
}


@pytest.mark.parametrize("case", SURVIVORS)
def test_neither_echo_nor_reveal_for_survivors(five: Any, case: str) -> None:
    attack = SURVIVORS[case]
    views = five.closed_without(5)
    hospital = five.hospitals[1]
    with pytest.raises(attack.error, match=attack.words):
        hospital.echo(1, attack.change(views[1], five))
    certificate = five.certificate(views)
    with pytest.raises(attack.error, match=attack.words):
        hospital.reveal(1, attack.change(views[1], five), certificate)
    reveal = hospital.reveal(1, views[1], certificate)
    assert (set(reveal.shares), set(reveal.key_shares)) == ({1, 2, 3, 4}, {5})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quorum": 2}, "quorum: 2 must lie in 3 to 5"),
        ({"quorum": 3, "colluding": 1}, "quorum: 3 is too low for 5 parties of which 1"),
        ({"bits": 25}, "bits: 25 must lie in 4 to 24"),
    ],
)
def test_a_hospital_cannot_be_made_to_build_parameters(changes: Any, words: str) -> None:
    """The coordinator's word on them is not asked: a low quorum or an overflow has no value."""
    values = {"session": bytes(16), "roster": (1, 2, 3, 4, 5), "quorum": 4, "dimension": 10}
    with pytest.raises(ParametersRefused, match=words):
        SumParameters(**(values | changes))
