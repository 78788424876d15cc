"""What the coordinator does not let in: each row changes one thing in an honest message."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from privacy.errors import CohortRefused, InputRefused, ProtocolError, SignatureRefused
from privacy.secagg.context import enrolment_statement

MODEL_HASH = bytes(range(32))


def without(mapping, index):
    return {key: value for key, value in mapping.items() if key != index}


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
    "a commitment too few": (
        lambda e: replace(e, share_commitments=without(e.share_commitments, 2)),
        CohortRefused,
        r"commitments: shares are given for \[1, 3\], needed for \[1, 2, 3\]",
    ),
    "a short commitment": (
        lambda e: replace(e, share_commitments=e.share_commitments | {3: bytes(31)}),
        CohortRefused,
        "commitments: share of party 3: 32 bytes are needed, not 31",
    ),
    "another commitment": (
        lambda e: replace(e, share_commitments=e.share_commitments | {3: bytes(32)}),
        SignatureRefused,
        "enrolment of party 2",
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


def test_a_key_of_low_order_is_named_before_it_stops_the_others(session, enrolments):
    low = replace(enrolments[1], public_key=bytes(32))
    statement = enrolment_statement(
        session.parameters.session, 1, 2, low.public_key, low.share_commitments
    )
    signed = replace(low, signature=session.identities[2].signing.sign(statement))
    with pytest.raises(ProtocolError, match="party 2: its X25519 key cannot be used"):
        session.coordinator.verify_enrolment(1, signed)


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
    "another share commitment": (
        lambda u: replace(u, share_commitments=u.share_commitments | {1: bytes(32)}),
        SignatureRefused,
        "upload of party 2",
    ),
    "a share commitment too few": (
        lambda u: replace(u, share_commitments=without(u.share_commitments, 2)),
        CohortRefused,
        r"commitments: shares are given for \[1, 3\], needed for \[1, 2, 3\]",
    ),
    "another's bad dealers": (
        lambda u: replace(u, bad_dealers=(1,)),
        SignatureRefused,
        "upload of party 2",
    ),
    "itself a bad dealer": (
        lambda u: replace(u, bad_dealers=(2,)),
        CohortRefused,
        r"bad_dealers: \[2\] are not all among \[1, 3\]",
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


ECHOES = {
    "another round": (lambda e: replace(e, round_number=2), CohortRefused, "it is for round 2"),
    "a dropped party": (lambda e: replace(e, index=5), CohortRefused, "party 5: the party is not"),
    "another's name": (lambda e: replace(e, index=3), SignatureRefused, "echo of party 3"),
    "unsigned": (lambda e: replace(e, signature=b""), SignatureRefused, "echo of party 2"),
    "other survivors": (
        lambda e: replace(e, survivors=(1, 2, 3)),
        CohortRefused,
        r"it is for the survivors \[1, 2, 3\], not for \[1, 2, 3, 4\]",
    ),
}


@pytest.mark.parametrize("case", ECHOES)
def test_refused_echoes(five, case):
    change, error, named = ECHOES[case]
    views = five.closed_without(5)
    echo = five.hospitals[2].echo(1, views[2])
    with pytest.raises(error, match=named):
        five.coordinator.add_echo(change(echo))
    five.coordinator.add_echo(echo)


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
    "a share left out by another": (
        lambda r: replace(r, shares=without(r.shares, 1)),
        SignatureRefused,
        "reveal of party 2",
    ),
    "a share of a stranger": (
        lambda r: replace(r, shares=r.shares | {4: bytes(33)}),
        CohortRefused,
        r"shares are given for \[1, 2, 3, 4\], allowed for \[1, 2, 3\]",
    ),
    "a share of a survivor's key": (
        lambda r: replace(r, key_shares={1: bytes(33)}),
        CohortRefused,
        r"shares are given for \[1\], allowed for \[\]",
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
