"""Flower's records as bytes of this project's wire format.

    data = encode_record(message.content)
    content = decode_record(data, max_bytes=1 << 30)

Flower's own serialisation is not used: it can name any serialiser, pickle among them.
"""

from __future__ import annotations

from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fl.errors import WireError
from fl.wire import Json, pack, unpack

KIND = "record"
MAX_RECORD_BYTES = 1 << 30


def encode_record(record: RecordDict) -> bytes:
    """Returns a record dictionary as bytes; order and types of all entries are kept.

    Raises:
        WireError: an array's type is not carried, or a number is not finite.
    """
    entries: list[Json] = []
    arrays: dict[str, NDArray[Any]] = {}
    for name, part in record.items():
        if isinstance(part, ArrayRecord):
            for key, array in part.items():
                arrays[_array_name(name, key)] = array.numpy()
            entries.append([name, "arrays", list(part)])
        elif isinstance(part, MetricRecord):
            entries.append([name, "metrics", [[key, value] for key, value in part.items()]])
        else:
            entries.append([name, "config", [[k, _plain(value)] for k, value in part.items()]])
    return pack(KIND, {"records": entries}, arrays)


def decode_record(data: bytes, *, max_bytes: int = MAX_RECORD_BYTES) -> RecordDict:
    """Reads a record dictionary.

    Raises:
        WireError: the data is not one, or longer than ``max_bytes``.
    """
    frame = unpack(data, kind=KIND, max_bytes=max_bytes)
    arrays = dict(frame.arrays)
    record = RecordDict()
    try:
        for name, kind, items in frame.head["records"]:
            if name in record:
                raise WireError(f"record {name!r}: it is listed twice")
            record[name] = _read_part(name, kind, items, arrays)
    except WireError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"record: not a list of records: {error}") from error
    if arrays or set(frame.head) != {"records"}:
        raise WireError("record: it holds more than its records")
    return record


def _read_part(
    name: str, kind: str, items: list[Any], arrays: dict[str, NDArray[Any]]
) -> ArrayRecord | MetricRecord | ConfigRecord:
    """Reads one record; it takes its arrays away."""
    if kind == "arrays":
        return ArrayRecord({key: Array(arrays.pop(_array_name(name, key))) for key in items})
    values = {key: _typed(value) for key, value in items}
    if len(values) != len(items):
        raise WireError(f"record {name!r}: a key is listed twice")
    if kind == "metrics":
        return MetricRecord(values)
    if kind == "config":
        return ConfigRecord(values)
    raise WireError(f"record {name!r}: {kind!r} is no kind of record")


def _array_name(record: str, key: str) -> str:
    """The name of an array in the frame; the length keeps two pairs of names apart."""
    return f"{len(record)}:{record}/{key}"


def _plain(value: Any) -> Json:
    """A configuration value as JSON; bytes as hexadecimal under a key no other value has."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    plain: Json = value
    return plain


def _typed(value: Any) -> Any:
    """The reverse of ``_plain``."""
    if isinstance(value, dict):
        decoded = bytes.fromhex(value["hex"])
        if _plain(decoded) != value:
            raise WireError("record: bytes are not written as hexadecimal alone")
        return decoded
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return value
