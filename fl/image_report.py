"""The report on a hospital's images: `fl.data_report` for contracts of images.

    report = report_on_images(blocks, pixels, contract, split_key=key)

Some images at a time are looked at; what is kept of each is a digest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl.contract import DataContract
from fl.data_report import DataReport, TextReport
from fl.errors import Violation

Pixels = Callable[[pd.DataFrame], Iterator[tuple[NDArray[Any], list[Violation]]]]
"""The images of a block of rows, in parts of shape (m, channels, height, width), black where one
breaks a rule, and the rules that they break."""


def report_on_images(
    blocks: Iterable[pd.DataFrame],
    pixels: Pixels,
    contract: DataContract,
    *,
    split_key: bytes | None = None,
) -> DataReport:
    """Holds images and their label file to a contract.

    Equal rows are those of equal pixels, whatever their labels; a black image equals no other.

    Args:
        blocks: the label file's rows in parts, with all columns of the contract as text.
        pixels: reads the images of each block in turn.
        contract: what the images and their labels must look like.
        split_key: as of `fl.data_report.report_on`.

    Raises:
        KeyError: a block lacks a column of the contract.
        ValueError: there are not as many images as rows.
    """
    report = TextReport(contract, split_key)
    faults: Counter[tuple[str, str]] = Counter()
    seen = 0
    for block in blocks:
        contents = []
        for images, violations in pixels(block):
            for violation in violations:
                faults[violation.column, violation.rule] += violation.count
            for image in images:
                contents.append(_content(image, seen))
                seen += 1
        if len(contents) != len(block):
            raise ValueError(f"report: {len(contents)} images for {len(block)} rows")
        if contents:
            report.take(block, np.stack(contents))
    return report.report(faults=tuple(Violation(*at, n) for at, n in sorted(faults.items())))


def _content(image: NDArray[Any], number: int) -> NDArray[np.uint64]:
    """What images of equal pixels have in common: uint64, shape (2,)."""
    content = np.ascontiguousarray(image).tobytes() if image.any() else b"%d" % number
    return np.frombuffer(hashlib.blake2b(content, digest_size=16).digest(), np.uint64)
