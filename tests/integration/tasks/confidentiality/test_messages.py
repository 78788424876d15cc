"""No byte that reaches the coordinator in a real round holds one hospital's update."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fl.messages import decode_reveal, decode_upload, encode_upload
from fl.secure_round import COUNTERS, PUBLIC_WEIGHT, identities, sum_parameters
from privacy.secagg import MemoryJournal, Participant, SecureSum, Upload
from privacy.secagg.context import self_mask_key
from privacy.secagg.masking import apply_masks
from privacy.secagg.shamir import combine
from tasks import gather
from tasks.cohort import OpenedRound

pytestmark = pytest.mark.integration

Vector = NDArray[Any]


def uploads_of(consortium: Any, opened: OpenedRound) -> dict[str, Upload]:
    parameters = sum_parameters(opened.invitation, parameters=consortium.weights["w"].size)
    return {
        sent.hospital_id: decode_upload(sent.body, parameters=parameters)
        for sent in consortium.sent
        if sent.kind == "upload"
    }


def quantised(secret: Vector, upload: Upload) -> Vector:
    """What an upload would hold without masks, its counts left out."""
    plain = np.zeros_like(upload.masked)
    plain[: len(secret)] = secret.view("<u4")
    return plain


def test_the_round_is_exact_so_that_it_is_known_what_to_look_for(
    consortium: Any, attacker: Any
) -> None:
    gathered = consortium.gather(consortium.open())
    total = np.rint(gathered.mean_update.astype(np.float64) * 3 / attacker.step)
    assert np.array_equal(total, sum(attacker.secrets.values()))


def test_no_message_holds_an_update(consortium: Any, attacker: Any) -> None:
    consortium.gather(consortium.open())
    bodies = [sent.body for sent in consortium.sent]
    assert sorted(bodies) == sorted(consortium.blobs.read[-9:])  # all that was read, and no other
    assert sum(len(body) > 4 * consortium.weights["w"].size for body in bodies) == 3
    for body in bodies:
        assert not [name for name, s in attacker.secrets.items() if attacker.finds(body, s)]
    for hospital in consortium.hospitals.values():
        for dtype in ("<u4", "<i8", "<u1", "<f4"):
            assert not any(hospital.counts.astype(dtype).tobytes() in body for body in bodies)


@pytest.mark.parametrize("spelling", ["quantised", "weights", "one mask for all"])
def test_an_update_that_is_not_masked_would_be_found(
    consortium: Any, attacker: Any, spelling: str
) -> None:
    """The control: what the other tests look for is found when it is there."""
    opened = consortium.open()
    consortium.gather(opened)
    upload = uploads_of(consortium, opened)["north"]
    secret = attacker.secrets["north"]
    plain = quantised(secret, upload)
    if spelling == "quantised":
        body = encode_upload(replace(upload, masked=plain))
        assert attacker.reads(body, secret)
    elif spelling == "weights":
        body = encode_upload(upload) + consortium.hospitals["north"].update.tobytes()
        assert attacker.reads(body, secret)
    else:
        other = quantised(attacker.secrets["west"], upload)
        body = ((plain + upload.masked) - (other + upload.masked)).tobytes()
        assert not attacker.reads(body, secret)
        assert attacker.finds(body, attacker.secrets["west"])
    assert attacker.finds(body, secret)
    assert not attacker.finds(body, attacker.secrets["east"])
    assert attacker.likeness(body, secret) > 0.5


def test_an_update_behind_a_mask_that_is_too_short_would_be_found(
    consortium: Any, attacker: Any
) -> None:
    secret = attacker.secrets["west"]
    short = np.random.default_rng(9).integers(0, 2**14, len(secret)).astype("<i4")
    assert not attacker.reads((secret + short).tobytes(), secret)
    assert attacker.finds((secret + short).tobytes(), secret)
    assert not attacker.looks_uniform((secret + short).view("<u4"))


def test_no_row_of_the_database_holds_an_update(consortium: Any, attacker: Any) -> None:
    consortium.gather(consortium.open())
    rows = json.dumps(consortium.contents(), default=str)
    assert rows.count('"kind": "upload"') == 3
    for secret in attacker.secrets.values():
        assert not any(piece.hex() in rows for piece in attacker.spelled(secret))
        assert str(secret[:8].tolist())[1:-1] not in rows
    rows_of = consortium.contents().values()
    longest = max(len(str(v)) for table in rows_of for row in table for v in row.values())
    assert longest < 1000  # there is no room for one either


def test_no_two_uploads_together_hold_an_update(consortium: Any, attacker: Any) -> None:
    opened = consortium.open()
    consortium.gather(opened)
    masked = {name: upload.masked for name, upload in uploads_of(consortium, opened).items()}
    assert len(masked) == 3
    for one, other in combinations(masked, 2):
        first, second = attacker.secrets[one], attacker.secrets[other]
        targets = [*attacker.secrets.values(), first - second, first + second]
        for together in (masked[one] - masked[other], masked[one] + masked[other]):
            assert not any(attacker.finds(together.tobytes(), target) for target in targets)


def test_without_their_self_masks_uploads_still_hold_no_update(
    consortium: Any, attacker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator's strongest attack: the shares it is given rebuild every self mask."""
    contexts: list[bytes] = []

    class Watched(SecureSum):
        def close(self) -> Any:
            assert self._round is not None
            contexts.append(self._round.context)
            return super().close()

    monkeypatch.setattr(gather, "SecureSum", Watched)
    opened = consortium.open()
    consortium.gather(opened)
    reveals = [decode_reveal(sent.body) for sent in consortium.sent if sent.kind == "reveal"]
    remainders = []
    for upload in uploads_of(consortium, opened).values():
        seed = combine({reveal.index: reveal.shares[upload.index] for reveal in reveals})
        remainder = upload.masked.copy()
        apply_masks(remainder, add=[], subtract=[self_mask_key(seed, contexts[0])])
        remainders.append(remainder)

    # All three add up to the sum, so these are the masks, and the attack has nothing left to try.
    dimension = consortium.weights["w"].size
    total = sum(remainders)[:dimension].view("<i4")
    assert np.array_equal(total, sum(attacker.secrets.values()))
    pairs = [pair for a, b in combinations(remainders, 2) for pair in (a + b, a - b)]
    for elements in (*remainders, *pairs):
        assert not any(attacker.finds(elements.tobytes(), s) for s in attacker.secrets.values())


def test_under_fixed_masks_any_input_gives_residues_as_even_as_any_other(
    consortium: Any, attacker: Any
) -> None:
    """Two inputs, the same keys and masks to the last bit: neither upload tells its input."""
    invitation = consortium.open().invitation
    dimension = consortium.weights["w"].size
    parameters = sum_parameters(invitation, parameters=dimension)

    def upload_of_east(vector: Vector) -> Vector:
        parties = [
            Participant(
                invitation.index_of(name),
                parameters,
                consortium.hospitals[name].identity,
                identities(invitation),
                journal=MemoryJournal(),
                randomness=np.random.default_rng(seed).bytes,
            )
            for seed, name in enumerate(consortium.hospitals)
        ]
        views = SecureSum(parameters, identities(invitation)).begin(
            1, enrolments=[party.enrol(1) for party in parties], model_hash=bytes(32)
        )
        upload = parties[0].upload(
            1,
            views[1],
            model_hash=bytes(32),
            vector=vector,
            weight=PUBLIC_WEIGHT,
            counts=np.zeros(COUNTERS, np.int64),
        )
        return upload.masked[:dimension]

    nothing = upload_of_east(np.zeros(dimension, np.float32))
    something = upload_of_east(consortium.hospitals["east"].update)
    secret = attacker.secrets["east"]
    # The masks are the same, or this would say nothing of the inputs.
    assert np.array_equal((something - nothing).view("<i4"), secret)
    assert attacker.looks_uniform(nothing)
    assert attacker.looks_uniform(something)
    assert not attacker.looks_uniform(secret.view("<u4"))
