"""The report on images: equal ones, those that break a rule, and their labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from fl.contract import DataContract, Images, Label
from fl.errors import Violation
from fl.image_report import report_on_images

CONTRACT = DataContract(images=Images(height=8, width=8), label=Label(name="y"), patient="who")
Part = tuple[NDArray[Any], list[Violation]]


def image(value: int) -> NDArray[np.uint8]:
    return np.full((1, 8, 8), value, np.uint8)


def block(rows: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["who", "y"], dtype=str)


def test_equal_images_are_found_whatever_their_labels_and_across_blocks() -> None:
    of_block = {"a": [image(1), image(2)], "b": [image(2), image(3)]}

    def pixels(rows: pd.DataFrame) -> Iterator[Part]:
        for one in of_block[rows["who"].iloc[0]]:  # in parts of one
            yield one[None], []

    blocks = [block([("a", "0"), ("a", "1")]), block([("b", "0"), ("b", "x")])]
    found = report_on_images(blocks, pixels, CONTRACT, split_key=b"k" * 16)
    assert (found.rows, found.negative, found.positive) == (4, 2, 1)
    assert found.repeats.rows_of_several_patients == 2
    assert found.repeats.equal_rows == 0
    assert found.broken == (Violation("y", "unknown-label", 1),)


def test_images_that_break_a_rule_are_counted_together_and_equal_no_other() -> None:
    def pixels(rows: pd.DataFrame) -> Iterator[Part]:
        yield np.stack([image(0)] * len(rows)), [Violation("file", "unreadable-image", len(rows))]

    blocks = [block([("a", "0"), ("b", "1")]), block([("c", "0")])]
    found = report_on_images(blocks, pixels, CONTRACT)
    assert found.broken == (Violation("file", "unreadable-image", 3),)
    assert found.repeats.rows_of_several_patients == 0


def test_as_many_images_as_rows_are_needed() -> None:
    with pytest.raises(ValueError, match="1 images for 2 rows"):
        report_on_images(
            [block([("a", "0"), ("b", "1")])], lambda _: iter([(image(1)[None], [])]), CONTRACT
        )
