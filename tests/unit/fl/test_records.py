from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fl.errors import WireError
from fl.records import decode_record, encode_record
from fl.wire import pack

numbers = st.integers(-(2**63), 2**63 - 1)
reals = st.floats(allow_nan=False, allow_infinity=False)
keys = st.text(max_size=8).filter(lambda text: text.isprintable())
arrays = st.sampled_from(["float32", "float64", "int64", "uint8"]).flatmap(
    lambda dtype: st.lists(st.integers(0, 200), max_size=6).map(
        lambda values: Array(np.array(values, dtype))
    )
)
metrics = numbers | reals | st.lists(numbers, max_size=3) | st.lists(reals, max_size=3)
config = (
    metrics
    | st.booleans()
    | keys
    | st.binary(max_size=5)
    | st.lists(st.booleans(), max_size=3)
    | st.lists(keys, max_size=3)
    | st.lists(st.binary(max_size=5), max_size=3)
)
parts = (
    st.dictionaries(keys, arrays, max_size=3).map(ArrayRecord)
    | st.dictionaries(keys, metrics, max_size=3).map(MetricRecord)
    | st.dictionaries(keys, config, max_size=3).map(ConfigRecord)
)


def plain(record):
    """A record dictionary as plain values whose types compare."""
    return [
        (
            name,
            type(part).__name__,
            [
                (key, value.numpy().dtype.name, value.numpy().tolist())
                if isinstance(value, Array)
                else (key, repr(value))
                for key, value in part.items()
            ],
        )
        for name, part in record.items()
    ]


@given(st.dictionaries(keys, parts, max_size=4))
def test_round_trip(content):
    record = RecordDict(content)
    assert plain(decode_record(encode_record(record))) == plain(record)


def test_a_training_message():
    record = RecordDict(
        {
            "arrays": ArrayRecord({"weight": Array(np.eye(2, dtype=np.float32))}),
            "config": ConfigRecord({"lr": 0.1, "name": "x", "blob": b"\0\xff", "on": True}),
            "metrics": MetricRecord({"num-examples": 1, "negatives": [1, 2], "loss": 0.5}),
        }
    )
    found = decode_record(encode_record(record))
    assert list(found) == ["arrays", "config", "metrics"]
    assert np.array_equal(found["arrays"]["weight"].numpy(), np.eye(2))
    assert dict(found["config"]) == {"lr": 0.1, "name": "x", "blob": b"\0\xff", "on": True}
    assert dict(found["metrics"]) == {"num-examples": 1, "negatives": [1, 2], "loss": 0.5}
    assert type(found["config"]["on"]) is bool
    assert type(found["metrics"]["loss"]) is float


def test_names_that_look_alike_stay_apart():
    record = RecordDict(
        {
            "a": ArrayRecord({"b/c": Array(np.zeros(1))}),
            "a/b": ArrayRecord({"c": Array(np.ones(1))}),
        }
    )
    assert plain(decode_record(encode_record(record))) == plain(record)


@pytest.mark.parametrize(
    "part",
    [
        ArrayRecord({"a": Array(np.array([np.nan]))}),
        ArrayRecord({"a": Array(np.array([1j]))}),
        MetricRecord({"a": float("nan")}),
        MetricRecord({"a": [float("inf")]}),
        ConfigRecord({"a": float("inf")}),
    ],
)
def test_what_is_not_carried(part):
    with pytest.raises(WireError):
        encode_record(RecordDict({"part": part}))


ONE = {"1:r/a": np.zeros(1)}


@pytest.mark.parametrize(
    ("head", "packed"),
    [
        ({}, {}),
        ({"records": 1}, {}),
        ({"records": [1]}, {}),
        ({"records": [["r", "arrays"]]}, {}),
        ({"records": [["r", "arrays", ["a"]]]}, {}),
        ({"records": [["r", "arrays", ["a", "a"]]]}, ONE),
        ({"records": [["r", "arrays", []]]}, ONE),
        ({"records": [], "more": 1}, {}),
        ({"records": [["r", "pickle", []]]}, {}),
        ({"records": [[1, "config", []]]}, {}),
        ({"records": [[["r"], "config", []]]}, {}),
        ({"records": [["r", "config", []], ["r", "config", []]]}, {}),
        ({"records": [["r", "config", [["a", 1], ["a", 2]]]]}, {}),
        ({"records": [["r", "config", [["a", None]]]]}, {}),
        ({"records": [["r", "config", [["a", [1, "b"]]]]]}, {}),
        ({"records": [["r", "config", [["a", {"hex": "0"}]]]]}, {}),
        ({"records": [["r", "config", [["a", {"hex": "AA"}]]]]}, {}),
        ({"records": [["r", "config", [["a", {"hex": 1}]]]]}, {}),
        ({"records": [["r", "config", [["a", {"hex": "00", "x": 1}]]]]}, {}),
        ({"records": [["r", "config", [["a", {}]]]]}, {}),
        ({"records": [["r", "metrics", [["a", "text"]]]]}, {}),
        ({"records": [["r", "metrics", [[1, 1]]]]}, {}),
        ({"records": [["r", "metrics", {"a": 1}]]}, {}),
    ],
)
def test_refused(head, packed):
    with pytest.raises(WireError):
        decode_record(pack("record", head, packed))


def test_size_is_bounded():
    data = encode_record(RecordDict({"c": ConfigRecord({"a": 1})}))
    with pytest.raises(WireError, match="bytes"):
        decode_record(data, max_bytes=len(data) - 1)
