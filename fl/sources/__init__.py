"""Where a hospital's data lie, read as blocks of text, whatever their format.

    for frame in blocks(Path("data/"), contract):
        frame["age"]  # text, some thousand rows

A folder with a ``labels.csv`` holds images, where the contract reads images; any other folder holds
exactly one data file. Blocks are of bounded size, so that a file may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl.contract import DataContract
from fl.errors import ContractViolation, Violation
from fl.sources import csv, images, npz, parquet
from fl.sources.places import LABEL_FILE, find_file

BLOCK_BYTES: Final = 2 << 20
"""Text of a block; a row, and a header, must be shorter."""

Pixels = Callable[[pd.DataFrame], Iterator[tuple[NDArray[np.generic], list[Violation]]]]
"""The images of a block of rows, in parts of bounded size, and the rules that they break."""


def blocks(
    path: Path, contract: DataContract, *, block_bytes: int = BLOCK_BYTES
) -> Iterator[pd.DataFrame]:
    """Yields the contract's columns as text, block by block, at least one row in all.

    The label file of a folder of images has the column ``file`` too.

    Args:
        path: a data file; a folder that holds exactly one; a folder of images.
        contract: the columns, and whether it reads images.
        block_bytes: how much of a CSV file is read at once.

    Raises:
        ContractViolation: rules about the file, its header or its rows' shapes. None about cells.
    """
    # Raised here and not where it was found: there it would have the library's error, which quotes
    # rows, as its context.
    if broken := (yield from _until_broken(path, contract, block_bytes)):
        raise ContractViolation(broken)


def pixels(path: Path, contract: DataContract) -> Pixels:
    """Returns what reads the images of one block after the other, of the source's first block on.

    Raises:
        ContractViolation: the file has no images; so does what is returned, where it breaks off.
    """
    if contract.images is None:
        raise ValueError("a contract for columns has no images")
    file = find_file(path, contract)
    if file.suffix.lower() == ".npz":
        return npz.Pictures(file, contract.images).of
    return images.Pictures(file.parent, contract.images).of


def _until_broken(
    path: Path, contract: DataContract, block_bytes: int
) -> Generator[pd.DataFrame, None, tuple[Violation, ...]]:
    try:
        yield from _blocks(path, contract, block_bytes)
    except ContractViolation as violation:
        return violation.violations
    return ()


def _blocks(path: Path, contract: DataContract, block_bytes: int) -> Iterator[pd.DataFrame]:
    file = find_file(path, contract)
    names = contract.names
    if file.name.lower() == LABEL_FILE and contract.images is not None:
        names = tuple(dict.fromkeys((images.FILE_COLUMN, *names)))
    rows = 0
    for frame in _one_ahead(_reader(file, names, contract, block_bytes)):
        rows += len(frame)
        if len(frame):
            yield frame
    if not rows:
        raise ContractViolation([Violation("", "empty-table")])


def _reader(
    file: Path, names: tuple[str, ...], contract: DataContract, block_bytes: int
) -> Iterator[pd.DataFrame]:
    match file.suffix.lower():
        case ".parquet":
            return parquet.blocks(file, names)
        case ".npz":
            return npz.blocks(file, names, label=contract.label.name, images=contract.images)
        case _:
            return csv.blocks(file, names, block_bytes=block_bytes)


def _one_ahead(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Reads the next block while this one is worked on."""
    with ThreadPoolExecutor(1, "fedmed-read") as reader:
        waiting = reader.submit(next, frames, None)
        while (frame := waiting.result()) is not None:
            waiting = reader.submit(next, frames, None)
            yield frame
