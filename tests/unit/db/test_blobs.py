from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.blobs import PIECE_BYTES, BlobStore
from db.errors import BlobCorrupt, BlobMissing


@pytest.fixture(params=["path", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    folder = tmp_path / "blobs"
    urls = {"path": str(folder), "file": folder.as_uri(), "memory": f"memory://{uuid4().hex}"}
    return BlobStore(urls[request.param])


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_bytes_come_back_under_their_hash(store: BlobStore) -> None:
    digest = store.put(b"weights")

    assert digest == hashlib.sha256(b"weights").hexdigest()
    assert store.exists(digest)
    assert store.get(digest) == b"weights"
    assert store.put(b"weights") == digest


def test_bytes_come_and_go_piece_by_piece(store: BlobStore) -> None:
    data = bytes(range(256)) * (PIECE_BYTES // 100)
    with store.incoming() as blob:
        for piece in (data[:1], data[1:70_000], data[70_000:]):
            blob.write(piece)
        assert (blob.size_bytes, blob.first(3)) == (len(data), data[:3])
        digest = blob.keep()

    assert digest == hashlib.sha256(data).hexdigest()
    size, pieces = store.pieces(digest)
    assert size == len(data)
    assert b"".join(pieces) == data
    with pytest.raises(BlobMissing):
        store.pieces("0" * 64)


def test_what_is_not_kept_is_gone(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    with store.incoming() as blob:
        blob.write(b"upload")
    with pytest.raises(TypeError), store.incoming() as blob:
        blob.write(0)  # type: ignore[arg-type]
    assert files_in(tmp_path) == []


def test_deleting_is_final_and_may_be_repeated(store: BlobStore) -> None:
    digest = store.put(b"update")

    store.delete(digest)
    store.delete(digest)

    assert not store.exists(digest)
    with pytest.raises(BlobMissing, match=digest):
        store.get(digest)


@given(st.binary(max_size=2000))
def test_any_bytes_survive(data: bytes) -> None:
    store = BlobStore("memory://any-bytes")
    assert store.get(store.put(data)) == data


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_what_is_no_hash_reaches_no_file(store: BlobStore, digest: str) -> None:
    for operation in (store.get, store.exists, store.delete):
        with pytest.raises(ValueError, match="SHA-256"):
            operation(digest)


def test_changed_bytes_are_noticed_and_healed_by_the_next_put(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    digest = store.put(b"weights")
    (stored,) = files_in(tmp_path)
    stored.write_bytes(b"weightz")

    with pytest.raises(BlobCorrupt, match=digest):
        store.get(digest)

    store.put(b"weights")
    assert store.get(digest) == b"weights"


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    store = BlobStore(str(tmp_path))
    monkeypatch.setattr(os, "fsync", disk_full)

    with pytest.raises(OSError, match="No space left"):
        store.put(b"weights")

    assert files_in(tmp_path) == []


def test_writers_of_the_same_bytes_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(store.put, [b"weights" * 1000] * 32))

    (digest,) = digests
    assert store.get(digest) == b"weights" * 1000
    assert [path.name for path in files_in(tmp_path)] == [digest]
