"""DICOM images, where the extra ``dicom`` is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.contract import Images


def read(file: Path, images: Images) -> NDArray[np.float32] | str:
    """Returns one frame's values, (h, w, c), within the contract's range; or the rule it breaks.

    Stored values become those of the modality, such as Hounsfield units, by the rescale slope and
    intercept (DICOM PS3.3, C.11.1.1.2). Where small values are shown white (``MONOCHROME1``,
    C.7.6.3.1.2), stored values are turned around first. Values beyond the contract's range become
    its ends, as a window does.

    Raises:
        Exception: whatever pydicom raises at a file that it cannot read.
    """
    try:
        import pydicom
        from pydicom.pixels import apply_rescale, convert_color_space
    except ImportError:
        return "install-extra-dicom"
    data = pydicom.dcmread(file)
    stored: NDArray[Any] = data.pixel_array
    photometric = str(data.PhotometricInterpretation)
    if int(data.get("NumberOfFrames", None) or 1) != 1:
        return "several-frames"
    if photometric.startswith("YBR"):
        stored = convert_color_space(stored, photometric, "RGB")
    if photometric == "MONOCHROME1":
        bits, is_signed = int(data.BitsStored), int(data.PixelRepresentation) == 1
        # The least and the largest stored value add up to this.
        stored = (-1 if is_signed else (1 << bits) - 1) - stored.astype(np.int64)
    values = np.asarray(apply_rescale(stored, data), np.float32)
    values = values if values.ndim == 3 else values[:, :, None]
    return np.clip(values, images.minimum, images.maximum)
