"""The fingerprint of a hospital's data: by which a person sees that the data is still the same.

file_fingerprint(site.settings.data_path)
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fl.sources.places import LABEL_FILE, data_files, image_files

_PIECE_BYTES = 1 << 20


def file_fingerprint(path: Path) -> str:
    """Returns the SHA-256, hex, of a data file's bytes.

    A folder has the fingerprint of its data files, in the order of their names; with one of them it
    is that file's, as `fl.data.load_table` reads it. Where it has a label file and images, each
    image's name and digest follow. Nothing is interpreted: no rule of a contract is tried on the
    rows.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    files = data_files(path) if path.is_dir() else [path]
    for file in files:
        _add(digest, file)
    if path.is_dir() and any(file.name.lower() == LABEL_FILE for file in files):
        for image in image_files(path):
            name = image.relative_to(path).as_posix()
            content = hashlib.sha256()
            _add(content, image)
            digest.update(f"\0{name}\0{content.hexdigest()}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _add(digest: hashlib._Hash, file: Path) -> None:
    with file.open("rb") as content:
        while piece := content.read(_PIECE_BYTES):
            digest.update(piece)
