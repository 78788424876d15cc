"""The report on a hospital's images: `fl.data_report` for contracts of images.

    report = report_on_images(records, contract, split_key=key)

One image at a time is looked at; what is kept of each is a digest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl.contract import DataContract, Images
from fl.data_report import DataReport, TextReport
from fl.errors import Violation

_AT_ONCE: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class ImageRecord:
    """An image and its line of the label file.

    Attributes:
        cells: the line's cells by column, as text.
        pixels: shape (height, width), or with one axis of channels, first or last; None where there
            is no image to look at.
        fault: why there is none: ``missing-image`` or ``unreadable-image``.
    """

    cells: Mapping[str, str]
    pixels: NDArray[Any] | None = None
    fault: str = ""


def report_on_images(
    records: Iterable[ImageRecord], contract: DataContract, *, split_key: bytes | None = None
) -> DataReport:
    """Holds images and their label file to a contract.

    Equal images are those of equal pixels, whatever their labels.

    Raises:
        ValueError: the contract is not about images.
        KeyError: a record lacks a column of the contract.
    """
    if contract.images is None:
        raise ValueError("report: the contract names columns, not images")
    faults: Counter[str] = Counter()
    text = TextReport(contract, split_key)
    seen = 0
    for some in _batches(records):
        contents = []
        for record in some:
            faults.update(_faults(record, contract.images))
            contents.append(_content(record, seen))
            seen += 1
        block = pd.DataFrame([dict(record.cells) for record in some], dtype=str)
        text.take(block, np.stack(contents))
    broken = tuple(Violation("", rule, count) for rule, count in sorted(faults.items()))
    return text.report(faults=broken)


def _batches(records: Iterable[ImageRecord]) -> Iterator[list[ImageRecord]]:
    rest = iter(records)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _faults(record: ImageRecord, images: Images) -> Iterator[str]:
    if record.pixels is None:
        yield record.fault or "unreadable-image"
        return
    channels, height, width = _shape(record.pixels)
    if (height, width) != (images.height, images.width):
        yield "image-size"
    if channels != images.channels:
        yield "image-channels"
    pixels = record.pixels
    if pixels.size and not images.minimum <= pixels.min() <= pixels.max() <= images.maximum:
        yield "out-of-range"


def _shape(pixels: NDArray[Any]) -> tuple[int, int, int]:
    """Channels, height, width."""
    if pixels.ndim == 2:
        return (1, *pixels.shape)
    if pixels.ndim != 3:
        return (0, 0, 0)
    first, middle, last = pixels.shape
    return (last, first, middle) if last in (1, 3, 4) else (first, middle, last)


def _content(record: ImageRecord, number: int) -> NDArray[np.uint64]:
    """What images of equal pixels have in common; one that cannot be read equals no other."""
    if record.pixels is None:
        content = b"unread" + number.to_bytes(8, "big")
    else:
        head = f"{_shape(record.pixels)} {record.pixels.dtype}".encode()
        content = head + np.ascontiguousarray(record.pixels).tobytes()
    return np.frombuffer(hashlib.blake2b(content, digest_size=16).digest(), np.uint64)
