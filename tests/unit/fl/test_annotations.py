"""Patients block by block."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl import annotations
from fl.annotations import Patients


@settings(max_examples=60, deadline=None)
@given(blocks=st.lists(st.lists(st.sampled_from(["a", " a", "b", "ü", "7"]), min_size=1)))
def test_patients_are_numbered_by_first_appearance_over_all_blocks(blocks: list[list[str]]) -> None:
    patients = Patients("who", frozenset({""}))
    for block in blocks:
        assert patients.add(pd.Series(block, dtype="str")) == []
    names = [name.strip() for block in blocks for name in block]
    known = list(dict.fromkeys(names))
    if not names:
        return
    codes, digests = patients.numbered()
    assert codes.tolist() == [known.index(name) for name in names]
    assert codes.dtype == np.int64
    assert [bytes(row) for row in digests] == [
        hashlib.sha256(name.encode()).digest() for name in known
    ]


def test_digests_that_begin_alike_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    class Alike:
        def __init__(self, content: bytes) -> None:
            self._content = content

        def digest(self) -> bytes:
            return b"12345678" + self._content.ljust(24, b"\0")

    monkeypatch.setattr(annotations.hashlib, "sha256", Alike)
    patients = Patients("who", frozenset())
    patients.add(pd.Series(["a", "b", "a"]))
    patients.add(pd.Series(["c", "b"]))
    codes, digests = patients.numbered()
    assert codes.tolist() == [0, 1, 0, 2, 1]
    assert len(digests) == 3
