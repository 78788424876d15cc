"""Folders and archives of images: sizes, colours, depths, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fl.contract import DataContract, Images, Label
from fl.data import load_table
from fl.errors import ContractViolation
from fl.fingerprint import file_fingerprint
from fl.sources import images as image_source
from fl.subgroups import Subgroup

RNG = np.random.default_rng(11)
GREY = RNG.integers(0, 256, (16, 16), np.uint8)
COLOUR = RNG.integers(0, 256, (16, 16, 3), np.uint8)


def contract(**fields: Any) -> DataContract:
    images = Images.model_validate({"height": 16, "width": 16} | fields)
    return DataContract(
        images=images,
        label=Label(name="malignant"),
        patient="who",
        subgroups=(Subgroup(name="sex", groups=("f", "m")),),
    )


def labelled(folder: Path, *files: str) -> Path:
    rows = "".join(f"{file},{number % 2},p{number},m\n" for number, file in enumerate(files))
    (folder / "labels.csv").write_text("file,malignant,who,sex\n" + rows, encoding="utf-8")
    return folder


def violations_of(path: Path, of: DataContract | None = None) -> set[tuple[str, str, int]]:
    with pytest.raises(ContractViolation) as caught:
        load_table(path, of or contract())
    assert caught.value.__context__ is None
    return {(v.column, v.rule, v.count) for v in caught.value.violations}


def test_a_folder_of_images_is_a_table_of_pixels(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(GREY).save(tmp_path / "a" / "one.png")
    Image.fromarray(COLOUR).save(tmp_path / "two.PNG")
    table = load_table(labelled(tmp_path, "a/one.png", " two.PNG "), contract())
    assert table.features.shape == (2, 1, 16, 16)
    assert table.features.dtype == np.uint8
    np.testing.assert_array_equal(table.features[0, 0], GREY)
    np.testing.assert_array_equal(table.features[1, 0], Image.fromarray(COLOUR).convert("L"))
    assert table.labels.tolist() == [0, 1]
    assert table.patients is not None
    assert table.groups is not None
    assert table.groups.tolist() == [[1], [1]]


def test_sizes_and_colours_become_the_contract_s(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).resize((40, 30)).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(GREY).save(tmp_path / "b.png")
    table = load_table(labelled(tmp_path, "a.jpg", "b.png"), contract(channels=3, height=8))
    assert table.features.shape == (2, 3, 8, 16)
    np.testing.assert_array_equal(table.features[1, 0], table.features[1, 2])
    halved = GREY.reshape(8, 2, 16).mean(1)
    assert np.abs(table.features[1, 0].astype(float) - halved).max() < 100  # a wider filter
    assert abs(table.features[1, 0].mean() - GREY.mean()) < 5


def test_deeper_pixels_keep_their_values(tmp_path: Path) -> None:
    deep = RNG.integers(0, 4096, (16, 16)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    table = load_table(labelled(tmp_path, "a.png"), contract(maximum=4095))
    assert table.features.dtype == np.float32
    np.testing.assert_array_equal(table.features[0, 0], deep)
    assert violations_of(tmp_path) == {("file", "out-of-range", 1)}


def test_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    Image.fromarray(GREY).save(tmp_path / "outside.png")
    Image.fromarray(GREY).save(root / "good.png")
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "cut.png").write_bytes((root / "good.png").read_bytes()[:-100])
    (root / "text.png").write_text("no image")
    (root / "table.txt").write_text("no image")
    (root / "gif.png").write_bytes(b"GIF89a" + bytes(50))
    files = [
        *("good.png", "../outside.png", str(tmp_path / "outside.png"), "link.png", "no.png"),
        *("cut.png", "text.png", "table.txt", "gif.png", "", "x" * 5000 + ".png"),
    ]
    assert violations_of(labelled(root, *files)) == {
        ("file", "file-outside-folder", 3),
        ("file", "no-such-image", 1),
        ("file", "unreadable-image", 5),
        ("file", "missing-value", 1),
    }


def test_an_image_too_large_to_be_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(image_source, "MOST_PIXELS", 255)
    assert violations_of(labelled(tmp_path, "a.png")) == {("file", "too-large-image", 1)}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert violations_of(tmp_path) == {("file", "unreadable-image", 1)}


def test_every_rule_of_cells_and_images_is_counted_at_once(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,malignant,who,sex\na.png,maybe,,x\nb.png,1,p,f\n")
    assert violations_of(tmp_path) == {
        *(("file", "no-such-image", 2), ("malignant", "unknown-label", 1)),
        ("who", "missing-value", 1),
    }


def test_images_need_a_folder_or_an_archive(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("malignant,who,sex\n1,p,f\n")
    assert violations_of(tmp_path) == {("", "no-images", 1)}
    labelled(tmp_path, "a.png")
    assert violations_of(tmp_path / "labels.csv") == {("", "no-images", 1)}


PIXELS = RNG.integers(0, 256, (5, 16, 16, 3), np.uint8)
FIELDS: dict[str, Any] = {
    "malignant": np.arange(5) % 2, "who": np.arange(5), "sex": np.array(list("fmfmf"))
}  # fmt: skip


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS.transpose(0, 3, 1, 2).copy()])
def test_an_archive_of_images_has_channels_first_or_last(tmp_path: Path, pixels: Any) -> None:
    np.savez(tmp_path / "a.npz", images=pixels, **FIELDS)
    table = load_table(tmp_path, contract(channels=3))
    np.testing.assert_array_equal(table.features, PIXELS.transpose(0, 3, 1, 2))
    assert table.labels.tolist() == [0, 1, 0, 1, 0]


def test_an_archive_s_images_are_brought_to_the_contract_s_form(tmp_path: Path) -> None:
    fields = {"labels": FIELDS["malignant"], "who": FIELDS["who"], "sex": FIELDS["sex"]}
    np.savez_compressed(tmp_path / "a.npz", images=PIXELS[..., 0], **fields)
    table = load_table(tmp_path / "a.npz", contract(height=8, width=8))
    assert table.features.shape == (5, 1, 8, 8)
    deep = PIXELS[..., 0].astype(np.float64) * 10
    np.savez(tmp_path / "a.npz", images=deep, **fields)
    table = load_table(tmp_path / "a.npz", contract(maximum=2550))
    np.testing.assert_array_equal(table.features[:, 0], deep)
    assert violations_of(tmp_path / "a.npz") == {("images", "out-of-range", 5)}


@pytest.mark.parametrize("pixels", [PIXELS[..., :2], PIXELS[:, 0, 0, 0], PIXELS.astype("U3")])
def test_an_array_that_is_none_of_images_is_refused(tmp_path: Path, pixels: Any) -> None:
    np.savez(tmp_path / "a.npz", images=pixels, **FIELDS)
    assert violations_of(tmp_path) == {("images", "not-images", 1)}


def test_a_fingerprint_covers_names_and_bytes_of_images(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    labelled(tmp_path, "a.png")
    before = file_fingerprint(tmp_path)
    assert file_fingerprint(tmp_path) == before
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    renamed = file_fingerprint(tmp_path)
    (tmp_path / "b.png").write_bytes(b"other")
    assert len({before, renamed, file_fingerprint(tmp_path)}) == 3


def test_dicom_without_its_library_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (tmp_path / "a.dcm").write_bytes(b"x")
    assert violations_of(labelled(tmp_path, "a.dcm")) == {("file", "install-extra-dicom", 1)}
