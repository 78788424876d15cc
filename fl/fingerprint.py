"""The fingerprint of a hospital's data: by which a person sees that the data is still the same.

file_fingerprint(site.settings.data_path)
"""

from __future__ import annotations

import hashlib
from pathlib import Path

_PIECE_BYTES = 1 << 20


def file_fingerprint(path: Path) -> str:
    """Returns the SHA-256, hex, of a data file's bytes.

    A folder has the fingerprint of its CSV files, in the order of their names; with one of them it
    is that file's, as `fl.data.load_table` reads it. Nothing is interpreted: no rule of a contract
    is tried on the rows.

    Raises:
        OSError: a file cannot be read.
    """
    files = [path]
    if path.is_dir():
        files = sorted(
            file
            for file in path.iterdir()
            if file.suffix.lower() == ".csv" and not file.name.startswith(".")
        )
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while piece := content.read(_PIECE_BYTES):
                digest.update(piece)
    return digest.hexdigest()
