"""Pixels of any size and depth, made to fit a data contract.

    pixels, violations = fitted_all(rows, contract.images, column="images")

Sizes change by Pillow's bilinear filter, which takes the mean over what becomes one pixel; colours
become grey by the weights of ITU-R BT.601. Values are kept: eight bits where the contract's range
is 0 to 255, which the model's layers scale, and float32 otherwise.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fl.contract import Images
from fl.errors import Violation

_GREY: Final = np.array([0.299, 0.587, 0.114], np.float32)


def fitted_all(
    rows: NDArray[Any], images: Images, *, column: str
) -> tuple[NDArray[Any], list[Violation]]:
    """Returns images of one size as the contract wants them, and the rules that some break.

    Args:
        rows: shape (n, h, w, c), c 1 or 3, of any type of numbers.
        images: the size, the channels and the range.
        column: what violations are called by.

    Returns:
        shape (n, channels, height, width), black where an image breaks a rule.
    """
    shape = (images.channels, images.height, images.width)
    out = np.zeros((len(rows), *shape), images.pixel_type)
    same = rows.shape[1:] == (images.height, images.width, images.channels)
    if same and rows.dtype == out.dtype == np.uint8:
        return np.ascontiguousarray(rows.transpose(0, 3, 1, 2)), []
    broken: dict[str, int] = {}
    for index, pixels in enumerate(rows):
        if rule := broken_rule(pixels, images):
            broken[rule] = broken.get(rule, 0) + 1
        else:
            out[index] = fitted(pixels, images)
    return out, [Violation(column, rule, count) for rule, count in broken.items()]


def broken_rule(pixels: NDArray[Any], images: Images) -> str:
    """The rule that an image's values break; empty for none."""
    if not np.all(np.isfinite(pixels)):
        return "not-a-number"
    if pixels.size == 0 or pixels.min() < images.minimum or pixels.max() > images.maximum:
        return "out-of-range"
    return ""


def fitted(pixels: NDArray[Any], images: Images) -> NDArray[Any]:
    """Returns one image's values, (h, w, c), at the contract's size: (channels, height, width)."""
    channels = _with_channels(pixels, images.channels)
    size = (images.width, images.height)
    if channels.shape[:2] != (images.height, images.width):
        planes = [np.asarray(_resized(plane, size)) for plane in np.moveaxis(channels, 2, 0)]
    else:
        planes = list(np.moveaxis(channels, 2, 0))
    stacked = np.stack(planes)
    if stacked.dtype != np.uint8:
        stacked = np.clip(stacked, images.minimum, images.maximum)
        if images.pixel_type == "uint8":
            stacked = np.rint(stacked)
    return stacked.astype(images.pixel_type)


def _with_channels(pixels: NDArray[Any], channels: int) -> NDArray[Any]:
    values = pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
    if values.shape[2] == channels:
        return values
    if channels == 3:
        return np.repeat(values, 3, axis=2)
    grey = (values @ _GREY)[:, :, None]
    return np.rint(grey).astype(np.uint8) if values.dtype == np.uint8 else grey


def _resized(plane: NDArray[Any], size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BILINEAR)
