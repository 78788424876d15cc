from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.chain import GENESIS, canonical_json, entry_hash, plain

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

Json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Lone surrogates have no bytes.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab/é"), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text("xyz"), Json, max_size=4))
def test_canonical_json_survives_being_stored_and_read(details: dict[str, Any]) -> None:
    text = canonical_json(plain(details))

    # As the database's driver writes it and reads it back.
    assert canonical_json(json.loads(json.dumps(plain(details)))) == text


def test_keys_that_sort_otherwise_as_text_have_one_form() -> None:
    details: dict[Any, Any] = {10: "b", 9: "a"}

    assert plain(details) == {"10": "b", "9": "a"}
    assert canonical_json(plain(details)) == canonical_json(plain(plain(details)))


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), object(), {1, 2}, b"bytes", "\ud800", NOW]
)
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="plain JSON"):
        canonical_json({"value": value})


def test_a_known_entry_has_a_known_hash() -> None:
    # printf '{"action":"a","at":"2026-01-02T03:04:05.678901+00:00","previous":"0…0","seq":1}' |
    # sha256sum
    assert (
        entry_hash(seq=1, at=NOW, previous=GENESIS, fields={"action": "a"})
        == "9bf1e939605b77f24ea76616abe2b89dc148f54ad2cec1f0128c9fb1fc080723"
    )


def test_the_hash_covers_everything_and_not_the_time_zone() -> None:
    base: dict[str, Any] = {"seq": 1, "at": NOW, "previous": GENESIS, "fields": {"a": 1}}
    changes: list[dict[str, Any]] = [
        {"seq": 2},
        {"at": NOW + timedelta(microseconds=1)},
        {"previous": "1" * 64},
        {"fields": {"a": 2}},
        {"fields": {"b": 1}},
    ]

    hashes = {entry_hash(**{**base, **change}) for change in changes}

    assert len(hashes | {entry_hash(**base)}) == len(changes) + 1
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    assert entry_hash(**{**base, "at": elsewhere}) == entry_hash(**base)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        entry_hash(seq=1, at=NOW.replace(tzinfo=None), previous=GENESIS, fields={})
