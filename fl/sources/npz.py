"""NumPy archives, ``.npz``: one array a column, or images with their labels, block by block.

Nothing in them is unpickled. An array is read row by row from the archive, so that the whole need
not fit in the memory.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from fl.contract import Images
from fl.errors import ContractViolation, Violation
from fl.row_store import slices
from fl.sources.csv import header_violations
from fl.sources.parquet import text_frame
from fl.sources.pixels import fitted_all
from fl.sources.places import refused

IMAGES: Final = "images"
LABELS: Final = "labels"
_ROWS: Final = 16_384
_DAMAGED: Final = (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def blocks(
    path: Path, names: Sequence[str], *, label: str, images: Images | None
) -> Iterator[pd.DataFrame]:
    """Yields named columns as text.

    Args:
        path: an archive of arrays of one length, each of one dimension, under the columns' names.
        names: the columns to read.
        label: the label's name; beside images its array may be called ``labels`` instead.
        images: what the archive holds images for, in the array ``images``; None for a table.

    Raises:
        ContractViolation: ``unreadable-file``, ``not-an-npz``, ``missing-column``,
            ``unreadable-column``, ``uneven-arrays``.
    """
    with _archive(path) as archive:
        found = _array_names(archive)
        aliases = {name: name for name in names}
        if images is not None and label not in found and LABELS in found:
            aliases[label] = LABELS
        wanted = [*aliases.values(), *([] if images is None else [IMAGES])]
        if broken := header_violations(found, wanted):
            raise ContractViolation(broken)
        columns = {name: _Array(archive, alias) for name, alias in aliases.items()}
        if unreadable := [name for name, array in columns.items() if not array.is_column]:
            raise ContractViolation(Violation(name, "unreadable-column") for name in unreadable)
        lengths = {array.shape[0] for array in columns.values()}
        if images is not None:
            lengths.add(_Array(archive, IMAGES).shape[0])
        if len(lengths) > 1:
            raise refused("uneven-arrays")
        for start in range(0, length := lengths.pop(), _ROWS):
            rows = min(_ROWS, length - start)
            # A text cell's bytes may end in zeros that NumPy has no other way to leave out.
            yield text_frame({name: pa.array(a.rows(rows)) for name, a in columns.items()})


class Pictures:
    """The images of an archive, in its order."""

    def __init__(self, path: Path, images: Images) -> None:
        self._images = images
        self._parts = self._read(path)
        self._waiting: list[tuple[NDArray[Any], list[Violation]]] = []
        next(self._parts)

    def of(self, frame: pd.DataFrame) -> Iterator[tuple[NDArray[Any], list[Violation]]]:
        """Yields the next ``len(frame)`` images, as the contract wants them, in parts."""
        row_bytes = self._images.channels * self._images.height * self._images.width * 4
        for part in slices(len(frame), row_bytes):
            yield self._parts.send(part.stop - part.start)

    def _read(self, path: Path) -> Generator[tuple[NDArray[Any], list[Violation]], int, None]:
        nothing = np.empty((0, 0, 0, 0), self._images.pixel_type), list[Violation]()
        with _archive(path) as archive:
            array = _Array(archive, IMAGES)
            order = _channels_last(array.shape, self._images)
            if array.dtype.kind not in "uif" or order is None:
                raise refused("not-images", column=IMAGES)
            count = yield nothing
            while True:
                rows = array.rows(count)
                rows = rows[..., None] if rows.ndim == 3 else rows.transpose(order)
                count = yield fitted_all(rows, self._images, column=IMAGES)


class _Array:
    """One array of an archive, read from its first row on.

    Raises:
        ContractViolation: ``unreadable-column``: pickled objects, or columns before rows.
    """

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._file = archive.open(f"{name}.npy")
        version = np.lib.format.read_magic(self._file)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(self._file)
        else:
            header = np.lib.format.read_array_header_2_0(self._file)
        self.shape, by_column, self.dtype = header
        if not self.shape or self.dtype.hasobject or (by_column and len(self.shape) > 1):
            raise refused("unreadable-column", column=name)

    @property
    def is_column(self) -> bool:
        return len(self.shape) == 1 and self.dtype.kind in "biufU"

    def rows(self, count: int) -> NDArray[Any]:
        shape = (count, *self.shape[1:])
        size = math.prod(shape) * self.dtype.itemsize
        content = self._file.read(size)
        if len(content) < size:
            raise EOFError("an array that ends before its last row")
        rows = np.frombuffer(content, self.dtype).reshape(shape)
        return rows.astype(self.dtype.newbyteorder("="), copy=False)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            yield archive
    except ContractViolation:
        raise
    except _DAMAGED:
        raise refused("not-an-npz") from None
    except OSError:
        raise refused("unreadable-file") from None


def _array_names(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist()]


def _channels_last(shape: tuple[int, ...], images: Images) -> tuple[int, ...] | None:
    """How axes are put to (n, h, w, c); None for what is no array of images."""
    if len(shape) == 3:
        return (0, 1, 2)
    if len(shape) != 4:
        return None
    if shape[1] in (1, 3) and (
        shape[3] not in (1, 3) or shape[1:] == (images.channels, images.height, images.width)
    ):
        return (0, 2, 3, 1)
    return (0, 1, 2, 3) if shape[3] in (1, 3) else None
