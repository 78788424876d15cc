from __future__ import annotations

import numpy as np
import pytest

from fl.errors import WireError
from fl.messages import (
    MAX_MESSAGE_BYTES,
    MAX_VIEW_BYTES,
    decode_certificate,
    decode_cohort,
    decode_echo,
    decode_enrolment,
    decode_reveal,
    decode_survivors,
    decode_upload,
    encode_certificate,
    encode_cohort,
    encode_echo,
    encode_enrolment,
    encode_reveal,
    encode_survivors,
    encode_upload,
    max_upload_bytes,
)
from fl.wire import pack, unpack
from privacy.secagg import (
    Certificate,
    CohortView,
    Echo,
    Enrolment,
    Identity,
    MemoryJournal,
    Participant,
    Reveal,
    SecureSum,
    SumParameters,
    SurvivorView,
    Upload,
    least_quorum,
)

PARTIES = 256


def parameters(parties, **values):
    return SumParameters(
        session=bytes(16),
        roster=tuple(range(1, parties + 1)),
        quorum=least_quorum(parties),
        **({"dimension": 20, "counters": 2} | values),
    )


@pytest.mark.parametrize("lost", [None, 2])
@pytest.mark.parametrize(("bits", "dtype"), [(12, "uint16"), (20, "uint32")])
def test_a_round_over_the_wire(bits, dtype, lost):
    values = parameters(4, bits=bits)
    identities = {index: Identity.generate() for index in values.roster}
    roster = {index: identity.public for index, identity in identities.items()}
    coordinator = SecureSum(values, roster)
    hospitals = {
        i: Participant(i, values, identities[i], roster, journal=MemoryJournal())
        for i in values.roster
    }
    enrolments = [decode_enrolment(encode_enrolment(h.enrol(7))) for h in hospitals.values()]
    cohort = coordinator.begin(7, enrolments=enrolments, model_hash=bytes(32))
    for index, view in cohort.items():
        if index == lost:
            continue
        upload = hospitals[index].upload(
            7,
            decode_cohort(encode_cohort(view)),
            model_hash=bytes(32),
            vector=np.ones(20, np.float32),
            weight=1,
            counts=np.array([index, 1]),
        )
        data = encode_upload(upload)
        assert len(data) <= max_upload_bytes(values)
        read = decode_upload(data, parameters=values)
        assert read.masked.dtype == dtype
        coordinator.add(read)
    survivors = {
        i: decode_survivors(encode_survivors(view)) for i, view in coordinator.close().items()
    }
    certificate = None
    if lost is not None:
        for i, view in survivors.items():
            coordinator.add_echo(decode_echo(encode_echo(hospitals[i].echo(7, view))))
        certificate = decode_certificate(encode_certificate(coordinator.certificate()))
    reveals = [
        decode_reveal(encode_reveal(hospitals[i].reveal(7, view, certificate)))
        for i, view in survivors.items()
    ]
    result = coordinator.finish(reveals)
    assert result.mean.tolist() == [1.0] * 20
    assert result.counts.tolist() == ([8, 3] if lost else [10, 4])
    assert result.faults == ()


def rows(size, count=PARTIES):
    return {index: bytes([index % 251]) * size for index in range(1, count + 1)}


def matrix():
    return {dealer: rows(32) for dealer in range(1, PARTIES + 1)}


ALL = tuple(range(1, PARTIES + 1))
LARGEST = {
    "enrolment": (
        Enrolment(256, 2**32 - 1, b"k" * 32, b"s" * 64, rows(61), rows(32)),
        encode_enrolment,
        decode_enrolment,
    ),
    "cohort": (
        CohortView(1, rows(32), rows(64), matrix(), rows(61)),
        encode_cohort,
        decode_cohort,
    ),
    "survivors": (
        SurvivorView(1, rows(32), rows(32), matrix(), rows(64), rows(61), ALL),
        encode_survivors,
        decode_survivors,
    ),
    "echo": (Echo(256, 2**32 - 1, ALL, b"s" * 64), encode_echo, decode_echo),
    "certificate": (
        Certificate(1, ALL, rows(64)),
        encode_certificate,
        decode_certificate,
    ),
    "reveal": (Reveal(1, 1, rows(33), rows(33), b"s" * 64), encode_reveal, decode_reveal),
}


SETS = ("survivors", "dropped")


def most_bytes(kind):
    return MAX_VIEW_BYTES if kind in ("cohort", "survivors") else MAX_MESSAGE_BYTES


@pytest.mark.parametrize("kind", LARGEST)
def test_the_largest_messages_fit(kind):
    message, encode, decode = LARGEST[kind]
    data = encode(message)
    assert len(data) <= most_bytes(kind)
    assert decode(data) == message


@pytest.mark.parametrize("kind", LARGEST)
def test_another_kind_is_refused(kind):
    message, encode, _ = LARGEST[kind]
    data = encode(message)
    for other, (_, _, decode) in LARGEST.items():
        if other != kind:
            with pytest.raises(
                WireError, match=f"'{other}' is expected|{other}: {len(data)} bytes"
            ):
                decode(data)


@pytest.mark.parametrize("kind", LARGEST)
def test_size_is_bounded(kind):
    frame = pack(kind, {}, {"padding": np.zeros(most_bytes(kind), np.uint8)})
    with pytest.raises(WireError, match=f"{len(frame)} bytes"):
        LARGEST[kind][2](frame)


@pytest.mark.parametrize("kind", LARGEST)
def test_every_part_is_needed_and_of_its_size(kind):
    message, encode, decode = LARGEST[kind]
    frame = unpack(encode(message), kind=kind, max_bytes=MAX_VIEW_BYTES)
    for name, array in frame.arrays.items():
        for wrong in (
            {key: value for key, value in frame.arrays.items() if key != name},
            {**frame.arrays, f"{name}-more": array[:1]},
            # A set of parties may have any size, but 0 is no party.
            {**frame.arrays, name: array - array if name in SETS else array[:-1]},
            {**frame.arrays, name: array.astype(np.int8)},
            {**frame.arrays, name: array[None]},
            {**frame.arrays, name: array[..., None]},
            {**frame.arrays, name: array.ravel()[0].reshape(())},
        ):
            with pytest.raises(WireError, match=name.partition(".")[0]):
                decode(pack(kind, frame.head, wrong))
    for name in frame.head:
        for number in (None, 0, -1, 2**32, 1.0, True, "1"):
            with pytest.raises(WireError, match=f"{kind}: {name} must be an integer of 1 to"):
                decode(pack(kind, {**frame.head, name: number}, frame.arrays))


@pytest.mark.parametrize("indices", [[1, 1, 2], [2, 1, 3], [0, 1, 2], [1, 2, 257]])
def test_indices_must_ascend_within_bounds(indices):
    arrays = {
        "shares.indices": np.array(indices, np.uint32),
        "shares": np.zeros((3, 33), np.uint8),
        "key_shares.indices": np.zeros(0, np.uint32),
        "key_shares": np.zeros((0, 33), np.uint8),
        "signature": np.zeros(64, np.uint8),
    }
    with pytest.raises(WireError, match="indices must ascend within 1 to 256"):
        decode_reveal(pack("reveal", {"index": 1, "round_number": 1}, arrays))


def upload_of(masked):
    shares, commitments = {2: bytes(61), 3: bytes(61)}, dict.fromkeys((1, 2, 3), bytes(32))
    return Upload(1, 1, masked, bytes(32), bytes(64), shares, commitments, (2,))


def test_an_upload_names_its_bad_dealers_over_the_wire():
    upload = upload_of(np.zeros(32, np.uint32))
    read = decode_upload(encode_upload(upload), parameters=parameters(3))
    assert (read.bad_dealers, read.share_commitments) == ((2,), upload.share_commitments)


def test_dealers_with_other_receivers_are_not_sent():
    view = CohortView(1, rows(32, 2), rows(64, 2), {1: rows(32, 2), 2: rows(32, 3)}, rows(61, 2))
    with pytest.raises(WireError, match="share_commitments: the dealers do not have the same"):
        encode_cohort(view)


@pytest.mark.parametrize(
    "masked",
    [
        np.zeros(31, np.uint32),
        np.zeros(33, np.uint32),
        np.zeros(32, np.uint16),
        np.zeros(32, np.int32),
        np.zeros((32, 1), np.uint32),
    ],
)
def test_an_upload_must_fit_the_parameters(masked):
    with pytest.raises(WireError, match="upload: masked must be uint32"):
        decode_upload(encode_upload(upload_of(masked)), parameters=parameters(3))


def test_an_upload_is_bounded_by_the_parameters():
    data = encode_upload(upload_of(np.zeros(100_000, np.uint32)))
    with pytest.raises(WireError, match="bytes"):
        decode_upload(data, parameters=parameters(3))


def test_values_of_wrong_size_are_not_sent():
    with pytest.raises(WireError, match="shares: 33 bytes are needed for 2, not 32"):
        encode_reveal(Reveal(1, 1, {1: bytes(33), 2: bytes(32)}, {}, bytes(64)))
