from __future__ import annotations

import hashlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fl.errors import WireError
from fl.wire import DTYPES, MAX_HEAD_BYTES, pack, unpack

MANY = 1 << 22

names = st.text(max_size=12).filter(lambda text: text.isprintable())
dtypes = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: st.sampled_from([np.dtype(name), np.dtype(name).newbyteorder(">")])
)
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
        elements={"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else None,
    )
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
frames = st.tuples(
    names, st.dictionaries(names, values, max_size=4), st.dictionaries(names, arrays, max_size=4)
)


def read(data, kind="k", max_bytes=MANY):
    return unpack(data, kind=kind, max_bytes=max_bytes)


def sealed(head, body=b"", *, marker=b"FMED", version=1, length=None):
    """A frame of any content under a digest that fits, as an attacker can make it."""
    head = head if isinstance(head, bytes) else canonical(head)
    size = len(head) if length is None else length
    content = marker + struct.pack("<BI", version, size) + head + body
    return content + hashlib.sha256(content).digest()


def canonical(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def entry(name="a", dtype="float32", shape=(1,)):
    return {"arrays": [[name, dtype, shape]], "head": {}, "kind": "k"}


@settings(max_examples=150)
@given(frames)
def test_round_trip(frame):
    kind, head, packed = frame
    data = pack(kind, head, packed)
    found = unpack(data, kind=kind, max_bytes=len(data))
    assert (found.kind, found.head) == (kind, head)
    assert list(found.arrays) == list(packed)
    for name, array in packed.items():
        read_back = found.arrays[name]
        assert read_back.dtype == array.dtype.newbyteorder("<")
        assert read_back.shape == array.shape
        assert np.array_equal(read_back, array)
        assert read_back.flags.owndata or read_back.base.flags.owndata
        assert read_back.flags.writeable
    assert pack(kind, found.head, found.arrays) == data


@settings(max_examples=50)
@given(frame=frames, data=st.data())
def test_any_change_is_refused(frame, data):
    packed = pack(*frame)
    at = data.draw(st.integers(0, len(packed) - 1))
    flipped = bytearray(packed)
    flipped[at] ^= data.draw(st.integers(1, 255))
    cut = packed[:at]
    longer = packed + data.draw(st.binary(min_size=1, max_size=40))
    for changed in (bytes(flipped), cut, longer, packed[1:]):
        with pytest.raises(WireError):
            read(changed, kind=frame[0])


def test_every_single_byte_counts():
    packed = pack("k", {"n": 1}, {"a": np.arange(3, dtype=np.float32)})
    for at in range(len(packed)):
        flipped = bytearray(packed)
        flipped[at] ^= 1
        with pytest.raises(WireError):
            read(bytes(flipped))
        with pytest.raises(WireError):
            read(packed[:at])


@given(st.binary(max_size=300))
def test_any_bytes_give_one_error(data):
    with pytest.raises(WireError):
        read(data)
    with pytest.raises(WireError):
        read(sealed(data))


@settings(max_examples=200)
@given(head=values | st.fixed_dictionaries({"arrays": values, "head": values, "kind": names}))
def test_any_json_under_a_good_digest_gives_one_error(head):
    """Structures that are JSON but no frame; a lucky one reads as an empty frame."""
    try:
        frame = read(sealed(head))
    except WireError:
        return
    assert (frame.kind, frame.arrays) == ("k", {})


def test_layout():
    """The bytes are pinned: another spelling needs another version."""
    data = pack("k", {"b": 1, "a": "ä"}, {"x": np.array([[1, 2]], ">u2")})
    head = '{"arrays":[["x","uint16",[1,2]]],"head":{"a":"ä","b":1},"kind":"k"}'.encode()
    content = b"FMED\x01" + struct.pack("<I", len(head)) + head + b"\1\0\2\0"
    assert data == content + hashlib.sha256(content).digest()


def test_order_in_memory_does_not_matter():
    array = np.arange(12, dtype=np.int64).reshape(3, 4)
    expected = pack("k", {}, {"a": array})
    assert pack("k", {}, {"a": np.asfortranarray(array)}) == expected
    assert pack("k", {}, {"a": np.repeat(array, 2, axis=1)[:, ::2]}) == expected
    assert np.array_equal(read(pack("k", {}, {"a": array.T})).arrays["a"], array.T)


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.array([1.0, np.nan]), "'a': it holds NaN"),
        (np.array([np.inf], np.float32), "'a': it holds NaN or infinity"),
        (np.array([-np.inf], ">f8"), "'a': it holds NaN or infinity"),
        (np.array([object()]), "'a': dtype object is not carried"),
        (np.array([1j]), "dtype complex128 is not carried"),
        (np.array([1], np.float16), "dtype float16 is not carried"),
        (np.array([True]), "dtype bool is not carried"),
        (np.array(["text"]), "is not carried"),
        (np.array([b"text"]), "is not carried"),
        (np.array(["2020-01-01"], "M8[D]"), "is not carried"),
        (np.zeros(1, [("x", "f4")]), "is not carried"),
        (np.zeros((1,) * 9), "9 dimensions, 8 at most"),
        (np.empty((0, 2**21, 2**21)), "is too large"),
    ],
)
def test_arrays_that_are_not_carried(array, named):
    with pytest.raises(WireError, match=named):
        pack("k", {}, {"a": array})


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("head", "named"),
    [
        ({"x": float("nan")}, "nan is not finite"),
        ({"x": [float("inf")]}, "inf is not finite"),
        ({"x": {1: 2}}, "the key 1 is not text"),
        ({"x": b"bytes"}, "bytes is not carried"),
        ({"x": {1}}, "set is not carried"),
        ({"x": np.float32(1)}, "float32 is not carried"),
        ({"x": 2**64}, "does not fit 64 bits"),
        ({"x": -(2**63) - 1}, "does not fit 64 bits"),
        ({"x": "\ud800"}, "not Unicode"),
        ({"x": nested(15)}, "nested deeper than 16"),
        ({"x": "y" * MAX_HEAD_BYTES}, "are more than"),
    ],
)
def test_heads_that_are_not_carried(head, named):
    with pytest.raises(WireError, match=named):
        pack("k", head, {})


def test_the_deepest_head():
    assert read(pack("k", {"x": nested(14)}, {})).head == {"x": nested(14)}


GOOD = {"arrays": [], "head": {}, "kind": "k"}


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "0 bytes; from 41"),
        (sealed(GOOD, marker=b"FMEX"), "not a frame of version 1"),
        (sealed(GOOD, version=2), "not a frame of version 1"),
        (sealed(GOOD)[:-1] + b"\0", "the digest does not match"),
        (sealed(GOOD, length=2**32 - 1), "a head of 4294967295 bytes is too long"),
        (sealed(GOOD, length=200), "a head of 200 bytes is too long"),
        (sealed(b" " * (MAX_HEAD_BYTES + 1)), "is too long"),
        (sealed(GOOD, length=10), "head: not JSON"),
        (sealed(b""), "head: not JSON"),
        (sealed(b"\xff"), "head: not JSON"),
        (sealed(b"[" * 100_000), "head: not JSON: RecursionError"),
        (sealed(b"1" * 5000), "head: not JSON"),
        (sealed(b"[" * 30 + b"]" * 30), "nested deeper"),
        (sealed(b'{"arrays":[],"head":{"x":NaN},"kind":"k"}'), "nan is not finite"),
        (sealed(b'{"arrays":[],"head":{"x":1e999},"kind":"k"}'), "inf is not finite"),
        (sealed(b'{"arrays":[],"head":{"x":1e2},"kind":"k"}'), "not in canonical form"),
        (sealed(b'{"arrays":[],"head":{"x":1,"x":1},"kind":"k"}'), "not in canonical form"),
        (sealed(b'{"arrays":[],"head":{},"kind":"\\ud800"}'), "not Unicode"),
        (sealed(b'{"arrays":[],"head":{}, "kind":"k"}'), "not in canonical form"),
        (sealed(b'{"kind":"k","head":{},"arrays":[]}'), "not in canonical form"),
        (sealed(b'{"arrays":[],"head":{},"kind":"\\u006b"}'), "not in canonical form"),
        (sealed([]), "exactly kind, head and arrays"),
        (sealed({"arrays": [], "kind": "k"}), "exactly kind, head and arrays"),
        (sealed(GOOD | {"more": 1}), "exactly kind, head and arrays"),
        (sealed(GOOD | {"head": []}), "exactly kind, head and arrays"),
        (sealed(GOOD | {"kind": 1}), "exactly kind, head and arrays"),
        (sealed(GOOD | {"kind": "other"}), "'k' is expected, the payload is 'other'"),
        (sealed(GOOD | {"arrays": [1]}), "an entry is not"),
        (sealed(GOOD | {"arrays": [["a", "float32"]]}), "an entry is not"),
        (sealed(GOOD | {"arrays": ["abc"]}), "an entry is not"),
        (sealed(entry(name=1)), "an entry is not"),
        (sealed(entry(dtype="object")), "an entry is not"),
        (sealed(entry(dtype="complex64")), "an entry is not"),
        (sealed(entry(dtype="O")), "an entry is not"),
        (sealed(entry(dtype=["float32"])), "an entry is not"),
        (sealed(entry(shape="1")), "an entry is not"),
        (sealed(entry(shape=[-1]), bytes(4)), r"\[-1\] is no shape"),
        (sealed(entry(shape=[-1, -1]), bytes(4)), "is no shape"),
        (sealed(entry(shape=[1.0]), bytes(4)), "is no shape"),
        (sealed(entry(shape=[True]), bytes(4)), "is no shape"),
        (sealed(entry(shape=[None]), bytes(4)), "is no shape"),
        (sealed(entry(shape=[1] * 9), bytes(4)), "9 dimensions"),
        (sealed(entry(shape=[2**63, 2])), "is too large"),
        (sealed(entry(shape=[0, 2**63])), "is too large"),
        (sealed(entry(shape=[2**32, 2**32])), "is too large"),
        (sealed(entry(shape=[2**39])), "is longer than the payload"),
        (sealed(entry(shape=[2]), bytes(7)), "is longer than the payload"),
        (sealed(entry(shape=[2]), bytes(9)), "1 bytes follow the last array"),
        (sealed(GOOD, bytes(1)), "1 bytes follow the last array"),
        (sealed(entry(shape=[1]), b"\0\0\xc0\x7f"), "'a': it holds NaN"),
        (
            sealed(GOOD | {"arrays": [["a", "uint8", [1]], ["a", "uint8", [1]]]}, bytes(2)),
            "'a': it is listed twice",
        ),
    ],
)
def test_refused_frames(data, named):
    with pytest.raises(WireError, match=named):
        read(data)


def test_size_is_checked_before_anything_is_read():
    data = pack("k", {}, {"a": np.zeros(1000)})
    assert read(data, max_bytes=len(data)).arrays["a"].shape == (1000,)
    with pytest.raises(WireError, match=f"{len(data)} bytes; from 41 to {len(data) - 1}"):
        read(data, max_bytes=len(data) - 1)


def test_another_kind_is_refused():
    with pytest.raises(WireError, match="'upload' is expected, the payload is 'reveal'"):
        read(pack("reveal", {}, {}), kind="upload")
