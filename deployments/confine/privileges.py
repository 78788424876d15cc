"""Giving up privileges: no more of them by any program, none of root's, no memory on a disk."""

from __future__ import annotations

import ctypes
import errno
import resource
from typing import Final

from deployments.confine.kernel import prctl

_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION: Final = 0x20080522
_MOST_CAPABILITIES: Final = 64


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def no_new_privileges() -> None:
    """Makes setuid programs and file capabilities without effect from here on (prctl(2))."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Gives up every capability(7), for good: root is then a user like others.

    What root could read by its privilege alone it can no longer read: the table and the hospital's
    home must belong to the user that runs the hospital.
    """
    for capability in range(_MOST_CAPABILITIES):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:
                break  # the kernel knows no more of them
            if error.errno != errno.EPERM:
                raise
            break  # an ordinary user has none, and so none to drop from the bounding set
    prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
    libc = ctypes.CDLL(None, use_errno=True)
    data = (_Data * 2)()  # all zero
    if libc.capset(ctypes.byref(_Header(_CAPABILITY_VERSION, 0)), data) != 0:
        raise OSError(ctypes.get_errno(), "capset failed")


def no_core_files() -> None:
    """Leaves no core file; to be called before rows are read."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def not_dumpable() -> None:
    """Keeps this process's memory from core handlers too, which heed no limit, and from ptrace."""
    prctl(_PR_SET_DUMPABLE, 0)
