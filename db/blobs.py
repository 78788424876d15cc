"""Bytes under their own hash: weights, strategy states, round messages.

    blobs = BlobStore("/var/lib/fedmed/artifacts")
    digest = blobs.put(b"...")
    blobs.get(digest)

Any fsspec address will do. A blob is there as a whole or not at all: on a local disk it is written
beside its place, synced and renamed; an object store takes or refuses a whole object itself.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

from db.errors import BlobCorrupt, BlobMissing

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """A content-addressed store in a folder of any file system that fsspec knows.

    >>> blobs = BlobStore("memory://example")
    >>> blobs.get(blobs.put(b"weights"))
    b'weights'
    """

    def __init__(self, url: str) -> None:
        files, root = fsspec.core.url_to_fs(url)
        self._files: Any = files
        self._root = str(root).rstrip("/")

    def put(self, data: bytes) -> str:
        """Stores bytes and returns their SHA-256, hex; storing them again is harmless."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        if isinstance(self._files, LocalFileSystem):
            _write_whole(Path(path), data)
        else:
            self._files.pipe_file(path, data)
        return digest

    def get(self, digest: str) -> bytes:
        """Returns the bytes under a hash.

        Raises:
            BlobMissing: there are none.
            BlobCorrupt: they have another hash.
            ValueError: ``digest`` is not a SHA-256 in lower-case hex.
        """
        try:
            data = bytes(self._files.cat_file(self._path(digest)))
        except FileNotFoundError:
            raise BlobMissing(digest) from None
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise BlobCorrupt(digest, found)
        return data

    def exists(self, digest: str) -> bool:
        """Returns whether there are bytes under a hash."""
        return bool(self._files.exists(self._path(digest)))

    def delete(self, digest: str) -> None:
        """Removes the bytes under a hash, if there are any."""
        try:
            self._files.rm_file(self._path(digest))
        except FileNotFoundError:
            return  # a repeated deletion

    def _path(self, digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"{digest!r} is not a SHA-256 in lower-case hex")
        return f"{self._root}/{digest[:2]}/{digest}"


def _write_whole(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)  # or the new name may be lost with the power
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
