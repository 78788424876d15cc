"""Bytes under their own hash: weights, strategy states, round messages.

    blobs = BlobStore("/var/lib/fedmed/artifacts")
    digest = blobs.put(b"...")
    blobs.get(digest)

    with blobs.incoming() as blob:      # for what is too large to hold
        blob.write(piece)
        blob.keep()

Any fsspec address will do. A blob is there as a whole or not at all: on a local disk it is written
beside its place, synced and renamed; an object store takes or refuses a whole object itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

from db.disk import sync_folder
from db.errors import BlobCorrupt, BlobMissing

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
PIECE_BYTES: Final = 1 << 20


class IncomingBlob:
    """Bytes on their way into a store, in a file of their own; no blob before `keep`.

    Attributes:
        size_bytes: how many were written.
    """

    def __init__(self, path: Path, file: IO[bytes], place: Callable[[Path, str], None]) -> None:
        self._path = path
        self._file = file
        self._place = place
        self._hasher = hashlib.sha256()
        self.size_bytes = 0

    @property
    def digest(self) -> str:
        """SHA-256, hex, of what was written so far."""
        return self._hasher.hexdigest()

    def write(self, data: bytes | bytearray) -> None:
        """Appends bytes."""
        self._file.write(data)
        self._hasher.update(data)
        self.size_bytes += len(data)

    def first(self, size: int) -> bytes:
        """Returns at most the first ``size`` bytes."""
        self._file.flush()
        with self._path.open("rb") as file:
            return file.read(size)

    def as_file(self) -> Path:
        """Returns the file with all that was written so far, for others to read."""
        self._file.flush()
        return self._path

    def keep(self) -> str:
        """Makes the bytes a blob of the store and returns their digest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._place(self._path, self.digest)
        return self.digest


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
        with self.incoming() as blob:
            blob.write(data)
            return blob.keep()

    @contextmanager
    def incoming(self) -> Iterator[IncomingBlob]:
        """Takes bytes piece by piece; what is not kept when the block ends is gone."""
        local = isinstance(self._files, LocalFileSystem)
        folder = Path(self._root if local else tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f".{uuid4().hex}.part"
        try:
            with path.open("xb") as file:
                yield IncomingBlob(path, file, self._rename if local else self._upload)
        finally:
            path.unlink(missing_ok=True)

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

    def pieces(self, digest: str) -> tuple[int, Iterator[bytes]]:
        """Returns the size of a blob and its bytes piece by piece; the reader checks the hash.

        Raises:
            BlobMissing: there is none.
            ValueError: ``digest`` is not a SHA-256 in lower-case hex.
        """
        path = self._path(digest)
        try:
            file: IO[bytes] = self._files.open(path, "rb")
        except FileNotFoundError:
            raise BlobMissing(digest) from None
        return int(self._files.size(path)), _pieces(file)

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

    def _rename(self, part: Path, digest: str) -> None:
        place = Path(self._path(digest))
        place.parent.mkdir(exist_ok=True)
        part.replace(place)
        sync_folder(place.parent)

    def _upload(self, part: Path, digest: str) -> None:
        self._files.put_file(str(part), self._path(digest))


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE_BYTES):
            yield piece
