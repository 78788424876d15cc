"""Which file a hospital's data path means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fl.contract import DataContract
from fl.errors import ContractViolation, Violation

LABEL_FILE: Final = "labels.csv"
DATA_SUFFIXES: Final = (".csv", ".parquet", ".npz")
IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".dcm")


def refused(rule: str, *, column: str = "", count: int = 1) -> ContractViolation:
    """Returns the error of one broken rule."""
    return ContractViolation([Violation(column, rule, count)])


def find_file(path: Path, contract: DataContract) -> Path:
    """Returns the data file, or the label file of a folder of images.

    Raises:
        ContractViolation: ``no-such-file``, ``several-files``, ``unreadable-file``, or
            ``no-images`` where the contract reads images and the file holds none.
    """
    try:
        files = data_files(path) if path.is_dir() else [path]
        labels = [file for file in files if file.name.lower() == LABEL_FILE]
        if contract.images is not None and path.is_dir() and labels:
            files = labels
        if len(files) > 1:
            raise refused("several-files", count=len(files))
        if not files or not files[0].exists():
            raise refused("no-such-file")
        if not files[0].is_file():
            raise refused("unreadable-file")
    except OSError:
        raise refused("unreadable-file") from None
    (file,) = files
    in_folder = path.is_dir() and file.name.lower() == LABEL_FILE
    if contract.images is not None and not in_folder and file.suffix.lower() != ".npz":
        raise refused("no-images")
    return file


def data_files(folder: Path) -> list[Path]:
    """Returns a folder's own data files, in the order of their names.

    Raises:
        OSError: the folder cannot be read.
    """
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in DATA_SUFFIXES and not file.name.startswith(".")
    )


def image_files(folder: Path) -> Iterator[Path]:
    """Yields the images in a folder and the folders below it, in the order of their names.

    Raises:
        OSError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if Path(name).suffix.lower() in IMAGE_SUFFIXES
    ]
    yield from sorted(found, key=lambda file: file.relative_to(folder).as_posix())
