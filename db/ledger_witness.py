"""The witness of a ledger: all of its entries once more, in a file outside its database.

A database that was restored from a backup is whole and says nothing of what is missing; the witness
does, and holds what is missing. It is written after the database, so it lacks at most what one
crash cut short; its last line may be torn then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from db.chain import GENESIS, ChainHead
from db.disk import sync_folder
from db.errors import LedgerBroken
from db.ledger_entry import LedgerEntry, check_chain, read_line

_TAIL_BYTES: Final = 1 << 14


class LedgerWitness:
    """The witness in one file, a line an entry; the caller holds the ledger's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def head(self) -> ChainHead:
        """Returns the head of its chain; a torn line at its end does not count.

        Raises:
            LedgerBroken: its last line is no entry.
        """
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                tail = b""
                while len(tail) < size and tail.count(b"\n") < 2:
                    start = max(0, size - len(tail) - _TAIL_BYTES)
                    file.seek(start)
                    tail = file.read(size - start)
        except FileNotFoundError:
            return ChainHead(0, GENESIS)
        lines = tail.split(b"\n")[:-1]
        return _parsed(self._path, lines[-1], None).head if lines else ChainHead(0, GENESIS)

    def entries(self) -> list[LedgerEntry]:
        """Returns all it holds, checked; see ``read_entries``."""
        return read_entries(self._path) if self._path.exists() else []

    def append(self, entries: Iterable[LedgerEntry]) -> None:
        """Writes entries after the last whole line; they are on disk before this returns."""
        new = not self._path.exists()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            end = _whole_lines(descriptor)
            os.ftruncate(descriptor, end)
            os.lseek(descriptor, end, os.SEEK_SET)
            _write(descriptor, entries)
        finally:
            os.close(descriptor)
        if new:
            sync_folder(self._path.parent)

    def replace(self, entries: Iterable[LedgerEntry], *, keep_as: Path | None) -> None:
        """Writes the file anew, whole or not at all; ``keep_as`` is where the old one stays."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if keep_as is not None and not keep_as.exists():
            os.link(self._path, keep_as)
        fresh = self._path.with_name(f"{self._path.name}.new")
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write(descriptor, entries)
        finally:
            os.close(descriptor)
        fresh.replace(self._path)
        sync_folder(self._path.parent)


def read_entries(path: Path) -> list[LedgerEntry]:
    """Returns the entries of a file of lines, checked; what follows the last line end is ignored.

    Raises:
        LedgerBroken: a line is no entry, or was changed, removed or moved.
    """
    lines = path.read_bytes().split(b"\n")[:-1]
    entries = [_parsed(path, line, seq) for seq, line in enumerate(lines, start=1)]
    check_chain(entries, where=str(path))
    return entries


def _parsed(path: Path, line: bytes, seq: int | None) -> LedgerEntry:
    try:
        return read_line(line.decode())
    except ValueError as error:
        raise LedgerBroken(str(path), seq, f"({error})") from None


def _whole_lines(descriptor: int) -> int:
    """Returns where the last whole line ends."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    while end:
        start = max(0, end - _TAIL_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _write(descriptor: int, entries: Iterable[LedgerEntry]) -> None:
    left = memoryview("".join(f"{entry.line()}\n" for entry in entries).encode())
    while left:
        left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)
