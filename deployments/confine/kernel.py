"""The system calls that Python has no function for (Linux)."""

from __future__ import annotations

import ctypes
import os


def prctl(option: int, first: int = 0, second: int = 0) -> int:
    """Changes something about this process; OSError when the kernel refuses."""
    return _checked("prctl", _libc().prctl(option, *map(ctypes.c_ulong, (first, second, 0, 0))))


def syscall(name: str, number: int, *arguments: object) -> int:
    """Calls a system call that the C library has no function for; ``name`` is for the error."""
    libc = _libc()
    libc.syscall.restype = ctypes.c_long
    return _checked(name, libc.syscall(ctypes.c_long(number), *arguments))


def unshare(flags: int) -> None:
    """Leaves namespaces of the parent process."""
    _checked("unshare", _libc().unshare(flags))


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mounts a file system, or changes how a mount spreads."""
    encoded = (None if text is None else text.encode() for text in (source, target, kind))
    options = None if data is None else data.encode()
    _checked("mount", _libc().mount(*encoded, ctypes.c_ulong(flags), options))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
