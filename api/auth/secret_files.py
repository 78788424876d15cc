"""Secrets on disk: a directory of mode 0700, files of mode 0600, whole or not there at all.

key = read_or_create(directory / "signing-key.pem", make_key)
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from db.disk import replace_file, write_new_file

DIRECTORY_MODE: Final = 0o700
_OTHERS_MAY_READ: Final = 0o077
_OTHERS_MAY_REPLACE: Final = 0o022


class SecretExposed(Exception):
    """A secret that others on the machine can read or replace."""


def read_or_create(path: Path, make: Callable[[], bytes]) -> bytes:
    """Returns the file's bytes; makes the file first when it is not there.

    Two processes that start together read the same bytes: the file is linked under its name when it
    is complete, which succeeds once (link(2) does not replace).

    Raises:
        SecretExposed: the file or its directory is open to others.
    """
    _ensure_directory(path.parent)
    if not path.exists():
        # Another process may be first: its file is the one to read.
        with suppress(FileExistsError):
            write_new_file(path, make())
    return read(path)


def read(path: Path) -> bytes:
    """Returns the file's bytes.

    Raises:
        SecretExposed: the file is open to others.
    """
    _refuse(path, _OTHERS_MAY_READ, "chmod 600")
    return path.read_bytes()


def replace(path: Path, data: bytes) -> None:
    """Replaces the file at once: a reader sees the old bytes or the new ones."""
    replace_file(path, data)


def _ensure_directory(directory: Path) -> None:
    directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    _refuse(directory, _OTHERS_MAY_REPLACE, "chmod 700")


def _refuse(path: Path, forbidden: int, remedy: str) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & forbidden:
        raise SecretExposed(f"{path} has mode {mode:04o}, open to others; run {remedy} {path}")
