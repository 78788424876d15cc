from __future__ import annotations

import pytest

from privacy.errors import ShareRefused
from privacy.secagg.sealing import ROUND_KEY, SEALED_BYTES, SELF_MASK, Sealer

SHARE = bytes(range(33))


@pytest.fixture
def sealers(session):
    return {
        index: Sealer(
            index,
            session=session.parameters.session,
            identity=session.identities[index],
            roster=session.roster,
            randomness=lambda size: b"\7" * size,
        )
        for index in session.roster
    }


@pytest.fixture
def sealed(sealers):
    return sealers[1].seal(SHARE, purpose=SELF_MASK, round_number=5, receiver=2)


def test_the_receiver_opens(sealers, sealed):
    assert len(sealed) == SEALED_BYTES
    assert SHARE not in sealed
    assert sealers[2].open(sealed, purpose=SELF_MASK, round_number=5, sender=1) == SHARE


@pytest.mark.parametrize(
    ("receiver", "change"),
    [
        (2, {"purpose": ROUND_KEY}),
        (2, {"round_number": 6}),
        (2, {"sender": 3}),
        (3, {}),
        (1, {"sender": 2}),  # reflected to its sender
    ],
)
def test_no_box_stands_in_for_another(sealers, sealed, receiver, change):
    with pytest.raises(ShareRefused, match=f"sealed for party {receiver} does not open"):
        sealers[receiver].open(
            sealed, **({"purpose": SELF_MASK, "round_number": 5, "sender": 1} | change)
        )


@pytest.mark.parametrize("at", [0, 11, 12, 44, 60])
def test_a_flipped_byte_is_refused(sealers, sealed, at):
    changed = bytearray(sealed)
    changed[at] ^= 1
    with pytest.raises(ShareRefused):
        sealers[2].open(bytes(changed), purpose=SELF_MASK, round_number=5, sender=1)


@pytest.mark.parametrize("size", [0, 5, 12, 27])
def test_a_cut_box_is_refused(sealers, sealed, size):
    with pytest.raises(ShareRefused):
        sealers[2].open(sealed[:size], purpose=SELF_MASK, round_number=5, sender=1)
