"""Stopping a hospital: a flag on its own disk that every round looks for.

    stop(site, now=now)            # no further round is answered, nothing more is uploaded
    resume(site, now=now)

It needs neither the coordinator nor the running process: whoever can write in the hospital's home
can stop it, with `touch` if need be.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Final

from db.disk import sync_folder
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site, SiteSettings

_FLAG: Final = "stopped"


def stop_flag(settings: SiteSettings) -> Path:
    """Returns where the flag lies while the hospital is stopped."""
    return settings.hospital_home / _FLAG


def is_stopped(settings: SiteSettings) -> bool:
    """Whether the hospital is stopped.

    Raises:
        OSError: the disk does not say; take it for stopped.
    """
    try:
        stop_flag(settings).lstat()
    except FileNotFoundError:
        return False
    return True


def check_not_stopped(settings: SiteSettings) -> None:
    """Returns only while the hospital is not stopped.

    Raises:
        Refusal: ``stopped``.
    """
    if is_stopped(settings):
        raise Refusal("stopped", "the hospital's people have stopped it; only they can resume it")


def stop(site: Site, *, now: datetime) -> bool:
    """Stops the hospital, on disk before this returns; returns False when it was stopped before."""
    flag = stop_flag(site.settings)
    try:
        descriptor = os.open(flag, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{now.isoformat()}\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(flag.parent)
    site.store.log("stopped", {})  # after the flag: a full log must not keep it from stopping
    return True


def resume(site: Site) -> bool:
    """Lets the hospital answer again; returns False when it was not stopped."""
    if not is_stopped(site.settings):
        return False
    site.store.log("resumed", {})  # before: it never answers again without saying so
    stop_flag(site.settings).unlink()
    sync_folder(site.settings.hospital_home)
    return True
