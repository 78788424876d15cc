"""The site file: what the commands of a hospital find instead of being told."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from db.disk import replace_file
from tasks.hospital.site_file import (
    SiteFile,
    SiteFileBroken,
    read_site_file,
    sites_below,
    write_site_file,
)

NORTH = SiteFile(hospital_id="north", api_url="https://fedmed.example.org", data_path=Path("/data"))


def test_it_is_read_as_it_was_written_and_by_its_owner_only(tmp_path: Path) -> None:
    write_site_file(tmp_path, NORTH)
    assert read_site_file(tmp_path) == NORTH
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_sites_are_found_by_their_file(tmp_path: Path) -> None:
    for name in ("south", "north", "empty", ".joining"):
        (tmp_path / name).mkdir()
    (tmp_path / "a file").touch()
    for name in ("south", "north"):
        write_site_file(tmp_path / name, NORTH.given(hospital_id=name))
    assert [site.hospital_id for site in sites_below(tmp_path)] == ["north", "south"]
    assert sites_below(tmp_path / "nowhere") == []


def test_what_is_not_given_stays(tmp_path: Path) -> None:
    changed = NORTH.given(data_path=None, ca_file=tmp_path)
    assert (changed.data_path, changed.ca_file) == (NORTH.data_path, tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"hospital_id": "../x", "api_url": "y"}'])
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "site.json").write_text(content)
    with pytest.raises(SiteFileBroken, match=r"site\.json.*--hospital-id"):
        read_site_file(tmp_path)


def test_a_file_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    replace_file(path, b"before")

    def full(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        replace_file(path, b"after")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"before"]
