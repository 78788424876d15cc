"""A network and a shared memory of the process's own (namespaces(7)).

In a new network namespace there is no interface but a loopback that is down: no address can be
reached, by whatever protocol. A Unix socket in the file system still can, and is the one way out.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from deployments.confine.kernel import mount, unshare

SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - where the C library puts it

_NEW_MOUNTS: Final = 0x00020000
_NEW_USER: Final = 0x10000000
_NEW_NETWORK: Final = 0x40000000
_MS_NOSUID: Final = 0x2
_MS_NODEV: Final = 0x4
_MS_NOEXEC: Final = 0x8
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 0x40000


def leave_network() -> None:
    """Moves this single-threaded process into networks and mounts of its own.

    Without the privilege for that it takes a user namespace along, in which it stays who it is.

    Raises:
        OSError: the system does not allow it.
    """
    try:
        unshare(_NEW_NETWORK | _NEW_MOUNTS)
    except PermissionError:
        user, group = os.geteuid(), os.getegid()
        unshare(_NEW_USER | _NEW_NETWORK | _NEW_MOUNTS)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def mounts() -> str:
    """Returns what names this process's mount namespace."""
    return os.readlink("/proc/self/ns/mnt")


def own_shared_memory(*, unlike: str) -> None:
    """Puts an empty shared memory in place of the one that all processes of a user see.

    Args:
        unlike: the mount namespace of the parent, which must be another one by now: what is
            mounted there is mounted for the whole system.

    Raises:
        OSError: the process is still in it, or may not mount.
    """
    if mounts() == unlike:
        raise OSError(errno.EPERM, "only in mounts of its own, which come with the network layer")
    mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    mount("tmpfs", SHARED_MEMORY, "tmpfs", flags, "mode=0700")
