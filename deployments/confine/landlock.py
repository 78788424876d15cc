"""Landlock: a process gives up, for itself and its children, all files but the named ones.

    restrict(rules, abi=abi_version())

Unlike permissions it needs no other user, and unlike a container no root (Linux 5.13,
https://docs.kernel.org/userspace-api/landlock.html). What the kernel's version does not know yet is
left out; `abi_version` says which it is.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import Final

from deployments.confine.kernel import syscall

TCP_SINCE: Final = 4
SCOPES_SINCE: Final = 6

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1


class Access(IntFlag):
    """Rights on files, linux/landlock.h."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15

    READ = READ_FILE | READ_DIR
    RUN = READ | EXECUTE
    WRITE = READ | WRITE_FILE | TRUNCATE | MAKE_REG | MAKE_DIR | REMOVE_FILE | REMOVE_DIR | REFER


_ABI_1: Final = Access((1 << 13) - 1)
_OF_A_FILE: Final = (
    Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
)
_TCP: Final = 0b11  # bind, connect
_SCOPES: Final = 0b11  # abstract Unix sockets, signals


@dataclass(frozen=True, slots=True)
class Rule:
    """What may be done at and below a path; a path that does not exist needs no rule."""

    path: Path
    access: Access


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi_version() -> int:
    """Returns the version of Landlock that the kernel offers, from 1.

    Raises:
        OSError: the kernel has no Landlock, or it is switched off.
    """
    return syscall("landlock", _CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)


def files_handled(abi: int) -> Access:
    """Returns the rights that this version can take away."""
    handled = _ABI_1
    for since, right in ((2, Access.REFER), (3, Access.TRUNCATE), (5, Access.IOCTL_DEV)):
        if abi >= since:
            handled |= right
    return handled


def restrict(rules: Iterable[Rule], *, abi: int) -> None:
    """Leaves this process the named files alone, no TCP and no signals beyond its own children.

    ``no_new_privs`` must be set already. Files that are open stay open.
    """
    handled = files_handled(abi)
    attributes = _Ruleset(
        handled, _TCP if abi >= TCP_SINCE else 0, _SCOPES if abi >= SCOPES_SINCE else 0
    )
    # An older kernel refuses a structure that is longer than its own.
    size = 24 if abi >= SCOPES_SINCE else 16 if abi >= TCP_SINCE else 8
    ruleset = syscall(
        "landlock_create_ruleset",
        _CREATE_RULESET,
        ctypes.byref(attributes),
        ctypes.c_size_t(size),
        0,
    )
    try:
        for rule in rules:
            _add(ruleset, rule, handled)
        syscall("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _add(ruleset: int, rule: Rule, handled: Access) -> None:
    try:
        descriptor = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        allowed = rule.access & handled
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            allowed &= _OF_A_FILE
        beneath = _PathBeneath(allowed, descriptor)
        syscall("landlock_add_rule", _ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(beneath), 0)
    finally:
        os.close(descriptor)
