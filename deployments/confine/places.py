"""The files that a hospital's training code can reach, and how."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deployments.confine.landlock import Access, Rule
from deployments.confine.namespaces import SHARED_MEMORY
from tasks.hospital.site import SiteSettings, records_directory

PACKAGES: Final = ("db", "deployments", "fl", "flows", "privacy", "tasks")

_SYSTEM_CODE: Final = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store")
_SYSTEM_FILES: Final = (
    # Named one by one: what else lies in /etc is nothing to training code.
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime"),
    *("/etc/timezone", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/mime.types"),
    *("/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/os-release"),
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm", "/proc/sys/kernel"),
    *("/sys/devices/system", "/dev/urandom", "/dev/random", "/dev/zero"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What is where, as far as a confined process is concerned.

    Attributes:
        data_path: the table, read only; a file, or a folder with all that lies below it.
        home: the hospital's home, read only: its keys, its policy, what it approved.
        temporary: a folder below it for temporary files.
        records: a folder below it for the store and the ledger.
        also_written: further folders that are written to.
        ca_file: whom it trusts at the other end of TLS, which the process itself speaks.
    """

    data_path: Path
    home: Path
    temporary: Path
    records: Path
    also_written: tuple[Path, ...] = ()
    ca_file: Path | None = None

    def rules(self) -> Iterator[Rule]:
        """Yields a rule for each place; everything else can be neither read nor written."""
        for code in _code():
            yield Rule(code, Access.RUN)
        for file in map(Path, _SYSTEM_FILES):
            yield Rule(file, Access.READ)
        for parent in _sources():
            # Python finds a package by listing the folder that it lies in.
            yield Rule(parent.parent, Access.READ_DIR)
        yield Rule(Path("/dev/null"), Access.READ_FILE | Access.WRITE_FILE)
        yield Rule(Path(SHARED_MEMORY), Access.WRITE)
        yield Rule(self.data_path, Access.READ)
        yield Rule(self.home, Access.READ)
        if self.ca_file is not None:
            yield Rule(self.ca_file, Access.READ_FILE)
        for written in (self.temporary, self.records, *self.also_written):
            yield Rule(written, Access.WRITE)


def places_of(settings: SiteSettings) -> Places:
    """Returns the places of a hospital; makes those that are its own."""
    temporary = settings.hospital_home / "tmp"
    temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
    also = () if settings.ledger_witness is None else (settings.ledger_witness,)
    for folder in also:
        folder.mkdir(parents=True, exist_ok=True)
    return Places(
        data_path=settings.data_path,
        home=settings.hospital_home,
        temporary=temporary,
        records=records_directory(settings),
        also_written=also,
        ca_file=settings.ca_file,
    )


def _code() -> set[Path]:
    # The packages one by one: a state directory often lies in the folder that they lie in.
    prefixes = (sys.prefix, sys.base_prefix, sys.exec_prefix)
    return {Path(place) for place in (*_SYSTEM_CODE, *prefixes)} | set(_sources())


def _sources() -> list[Path]:
    found = (importlib.util.find_spec(name) for name in PACKAGES)
    return [Path(p) for spec in found if spec for p in spec.submodule_search_locations or ()]
