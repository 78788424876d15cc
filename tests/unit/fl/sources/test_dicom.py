"""DICOM: modality values within the contract's range, whichever way round they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from fl.contract import DataContract, Images, Label
from fl.data import load_table
from fl.errors import ContractViolation

STORED = np.random.default_rng(2).integers(0, 4096, (16, 16)).astype(np.uint16)
CONTRACT = DataContract(
    images=Images(height=16, width=16, minimum=-1000, maximum=1000), label=Label(name="y")
)


def write(folder: Path, pixels: Any = STORED, **fields: Any) -> Path:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    for name, value in fields.items():
        setattr(data, name, value)
    data.PixelData = pixels.tobytes()
    data.save_as(folder / "a.dcm", enforce_file_format=True)
    (folder / "labels.csv").write_text("file,y\na.dcm,1\n")
    return folder


def test_values_are_the_modality_s_and_end_at_the_range(tmp_path: Path) -> None:
    table = load_table(write(tmp_path), CONTRACT)
    expected = np.clip(STORED.astype(float) - 1024, -1000, 1000)
    np.testing.assert_array_equal(table.features[0, 0], expected)


def test_white_for_small_values_is_turned_around(tmp_path: Path) -> None:
    plain = load_table(write(tmp_path), CONTRACT).features.copy()
    turned = write(tmp_path, 4095 - STORED, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(load_table(turned, CONTRACT).features, plain)
    signed = (STORED.astype(np.int16) - 2048).astype(np.int16)
    fields = {"PixelRepresentation": 1, "RescaleIntercept": 1024}
    turned = write(tmp_path, -1 - signed, PhotometricInterpretation="MONOCHROME1", **fields)
    np.testing.assert_array_equal(load_table(turned, CONTRACT).features, plain)


@pytest.mark.parametrize(
    ("content", "rule"), [(b"", "unreadable-image"), (b"no DICOM" * 40, "unreadable-image")]
)
def test_what_is_no_dicom_is_counted(tmp_path: Path, content: bytes, rule: str) -> None:
    write(tmp_path)
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(ContractViolation, match=rf"^file: {rule} \(1\)$"):
        load_table(tmp_path, CONTRACT)


def test_several_frames_are_not_one_image(tmp_path: Path) -> None:
    write(tmp_path, np.stack([STORED, STORED]), NumberOfFrames=2)
    with pytest.raises(ContractViolation, match=r"^file: several-frames \(1\)$"):
        load_table(tmp_path, CONTRACT)
