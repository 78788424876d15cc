"""Architectures of somebody's own that are installed here: entry points, and their source.

    entry_point = installed("tabnet")
    files = source_of(entry_point)  # found without running any of it

An architecture is an entry point in the group `GROUP` of a distribution that a person at the
hospital installed; nothing that a coordinator says can install or replace one. Free of PyTorch.
"""

from __future__ import annotations

import importlib.util
from importlib.machinery import all_suffixes
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final

from fl.errors import ModelError

GROUP: Final = "fedmed.architectures"

_CACHE: Final = "__pycache__"


def installed(name: str) -> EntryPoint:
    """Returns the entry point of an architecture.

    Raises:
        ModelError: none of that name is installed, or more than one.
    """
    found = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise ModelError(
            f"architecture {name!r}: {', '.join(sorted(map(_written, found.values())))} all bring "
            f"one of this name in the group {GROUP!r}; uninstall all but one"
        )
    raise ModelError(
        f"architecture {name!r}: not installed here; in the group {GROUP!r} there is "
        f"{', '.join(installed_names()) or 'nothing'}; install the Python package that brings it "
        "into the environment of `fedmed`, here and at every hospital, and start again"
    )


def installed_names() -> list[str]:
    """Returns the names of all that are installed, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def source_of(entry_point: EntryPoint) -> dict[str, Path]:
    """Returns all files of an entry point's top-level package that Python may load, by name.

    Nothing is imported, so that it can be looked at before any of it runs. What the package takes
    from other packages is not among the files.

    Raises:
        ModelError: the package is not there, or parts of it lie behind a link to a folder.
    """
    top = entry_point.module.partition(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise ModelError(f"architecture {entry_point.name!r}: there is no package {top!r}")
    files: dict[str, Path] = {}
    for place in map(Path, spec.submodule_search_locations or ()):
        for path in sorted(place.rglob("*")):
            if path.is_dir() and path.is_symlink():
                raise ModelError(
                    f"architecture {entry_point.name!r}: {path.name} in package {top!r} is a link "
                    "to a folder, whose content nobody approves; put a folder in its place"
                )
            if _may_be_loaded(path.relative_to(place)) and path.is_file():
                files[f"{top}/{path.relative_to(place).as_posix()}"] = path
    if not files and spec.origin is not None and Path(spec.origin).is_file():
        files[Path(spec.origin).name] = Path(spec.origin)
    if not files:
        raise ModelError(f"architecture {entry_point.name!r}: package {top!r} has no source here")
    return files


def _may_be_loaded(path: Path) -> bool:
    # Compiled files in the cache are used only while they belong to the source beside it.
    return path.name.endswith(tuple(all_suffixes())) and _CACHE not in path.parts


def _written(entry_point: EntryPoint) -> str:
    dist = entry_point.dist
    return entry_point.value if dist is None else f"{dist.name} {dist.version}"
