"""The fingerprint of a data file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fl.fingerprint import file_fingerprint


def test_it_is_the_sha_256_of_the_file_alone_or_in_its_folder(tmp_path: Path) -> None:
    content = b"a,b\n" * (1 << 19)  # more than one piece
    (tmp_path / "table.CSV").write_bytes(content)
    (tmp_path / ".hidden.csv").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    expected = hashlib.sha256(content).hexdigest()
    assert file_fingerprint(tmp_path / "table.CSV") == expected
    assert file_fingerprint(tmp_path) == expected


def test_one_more_byte_is_other_data(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"a,b\n1,2\n")
    before = file_fingerprint(path)
    path.write_bytes(b"a,b\n1,2\n\n")
    assert file_fingerprint(path) != before


def test_no_file_is_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_fingerprint(tmp_path / "table.csv")
