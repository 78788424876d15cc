from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from api.auth.secret_files import SecretExposed, read, read_or_create, replace


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_makes_the_file_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "deep" / "key"
    assert read_or_create(path, lambda: b"first") == b"first"
    assert read_or_create(path, lambda: b"second") == b"first"
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["key"]


def test_processes_that_start_together_read_the_same(tmp_path: Path) -> None:
    path = tmp_path / "key"
    together = threading.Barrier(8)
    found: list[bytes] = []

    def start(own: bytes) -> None:
        def make() -> bytes:
            together.wait()  # all have seen that the file is not there
            return own

        found.append(read_or_create(path, make))

    threads = [threading.Thread(target=start, args=(bytes([n]) * 32,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("exposed", [0o640, 0o604, 0o666, 0o610])
def test_refuses_a_file_that_others_can_open(tmp_path: Path, exposed: int) -> None:
    path = tmp_path / "key"
    read_or_create(path, lambda: b"secret")
    path.chmod(exposed)
    with pytest.raises(SecretExposed, match=f"{exposed:04o}.*chmod 600"):
        read(path)


def test_refuses_a_directory_in_which_others_can_replace_files(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(SecretExposed, match="chmod 700"):
        read_or_create(directory / "key", lambda: b"secret")
    assert not any(directory.iterdir())


def test_nothing_is_left_when_the_secret_cannot_be_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "link", no_space)
    with pytest.raises(OSError, match="no space"):
        read_or_create(tmp_path / "key", lambda: b"secret")
    assert not any(tmp_path.iterdir())


def test_replaces_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "operator.json"
    read_or_create(path, lambda: b"old")
    replace(path, b"new")
    assert read(path) == b"new"
    assert mode(path) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["operator.json"]
