"""A folder of images, named by the label file that lies in it.

The label file's column ``file`` names each image by its path from the folder on. PNG and JPEG are
read by Pillow, DICOM by pydicom where the extra ``dicom`` is installed.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fl.contract import Images
from fl.errors import Violation
from fl.row_store import slices
from fl.sources import dicom
from fl.sources.pixels import broken_rule, fitted
from fl.sources.places import IMAGE_SUFFIXES

FILE_COLUMN: Final = "file"
MOST_PIXELS: Final = 1 << 26
"""Of an image that is read: a small file can name a size that fills the memory."""

_THREADS: Final = 4


class Pictures:
    """The images below a folder.

    Args:
        folder: nothing outside it is read, by whatever link.
        images: the size, the channels and the range to bring them to.
    """

    def __init__(self, folder: Path, images: Images) -> None:
        self._folder = folder
        self._images = images

    def of(self, frame: pd.DataFrame) -> Iterator[tuple[NDArray[Any], list[Violation]]]:
        """Yields the images that a block of rows names, in parts, and the rules they break."""
        images = self._images
        shape = (images.channels, images.height, images.width)
        names = frame[FILE_COLUMN].str.strip().tolist()
        read = partial(_read, self._folder.resolve(), images)
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
            for part in slices(len(names), 4 * images.channels * images.height * images.width):
                pixels = np.zeros((part.stop - part.start, *shape), images.pixel_type)
                broken: Counter[str] = Counter()
                with warnings.catch_warnings():
                    # Pillow warns of what is refused here by its size, and of odd metadata.
                    warnings.simplefilter("ignore")
                    for index, found in enumerate(pool.map(read, names[part])):
                        if isinstance(found, str):
                            broken[found] += 1
                        else:
                            pixels[index] = found
                yield pixels, [Violation(FILE_COLUMN, *counted) for counted in broken.items()]


def _read(root: Path, images: Images, name: str) -> NDArray[Any] | str:
    """An image as the contract wants it, or the rule that it breaks."""
    if not name:
        return "missing-value"
    try:
        file = (root / name).resolve()
        if not file.is_relative_to(root):
            return "file-outside-folder"
        if not file.is_file():
            return "no-such-image"
        suffix = file.suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            return "unreadable-image"
        found = dicom.read(file, images) if suffix == ".dcm" else _decoded(file, images)
    except MemoryError:
        raise
    except Exception:
        # Decoders fail in ways of their own, and their messages may quote what they read.
        return "unreadable-image"
    if isinstance(found, str):
        return found
    return broken_rule(found, images) or fitted(found, images)


def _decoded(file: Path, images: Images) -> NDArray[Any] | str:
    with Image.open(file, formats=("PNG", "JPEG")) as image:
        if image.width * image.height > MOST_PIXELS:
            return "too-large-image"
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith(("I", "F")):
            return np.asarray(upright, np.float32)[:, :, None]
        pixels = np.asarray(upright.convert("L" if images.channels == 1 else "RGB"))
        return pixels.reshape(*pixels.shape[:2], images.channels)
