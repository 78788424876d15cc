"""What a file system must be told before a name is on the disk."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Returns once the names in a folder are on the disk: those of new, renamed and removed files.

    Syncing a file keeps its content alone; without this its name may be lost with the power.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
