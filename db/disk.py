"""Files that are on the disk, whole, when a call returns; or are not there, or are as they were.

write_new_file(folder / "signing.key", key)      # never replaces one
replace_file(folder / "site.json", content)      # in one step
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_new_file(path: Path, content: bytes) -> None:
    """Writes a file of mode 0600.

    Raises:
        FileExistsError: there is one; it stays as it is.
    """
    with _complete_beside(path, content) as complete:
        os.link(complete, path)
    sync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file of mode 0600, in place of any that is there."""
    with _complete_beside(path, content) as complete:
        os.replace(complete, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Returns once the names in a folder are on the disk: those of new, renamed and removed files.

    Syncing a file keeps its content alone; without this its name may be lost with the power.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _complete_beside(path: Path, content: bytes) -> Iterator[Path]:
    """Yields a synced file in the same folder, which is gone afterwards."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    complete = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield complete
    finally:
        complete.unlink(missing_ok=True)
