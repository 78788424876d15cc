"""The hash of a model's code: what a person who approves a model has approved.

    model_code_hash(invitation.model)

A hospital computes it from the code that is installed at its own place, never from what the
coordinator says. It covers the specification (architecture, data contract, hyperparameters) and the
source of every module of ``fl`` and ``privacy`` that building, training, evaluating, noising and
masking the model reaches. The modules are found by following imports from a few roots, so that a
module that is added to the training later cannot be forgotten here. An architecture of somebody's
own adds the source of its package, as it is installed. `source_hash` does the same for a whole
flow.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from fl.architecture_spec import Custom
from fl.installed import installed, source_of
from fl.spec import ModelSpec

_ROOTS: Final = (
    *("fl.data", "fl.split", "fl.client"),
    *("privacy.noise", "privacy.secagg.participant"),
)
_PACKAGES: Final = ("fl", "privacy")


def model_code_hash(spec: ModelSpec) -> str:
    """Returns the SHA-256, hex, of a model's specification and of the code that trains it.

    Name and description do not enter: they change nothing of what is trained.

    Raises:
        ModelError: an architecture of somebody's own that is not installed here.
    """
    content = spec.model_dump(mode="json", include={"architecture", "contract", "hyperparameters"})
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    code = training_code_hash()
    if isinstance(spec.architecture, Custom):
        code += own_code_hash(spec.architecture.entry_point)
    return hashlib.sha256(f"{code}\n{text}".encode()).hexdigest()


def own_code_hash(name: str) -> str:
    """Returns the SHA-256, hex, of the source behind an architecture of somebody's own.

    Raises:
        ModelError: it is not installed here.
    """
    entry_point = installed(name)
    digest = hashlib.sha256(f"{entry_point.value}\n".encode())
    digest.update(_hash_of(source_of(entry_point)).encode())
    return digest.hexdigest()


@cache
def training_code_hash() -> str:
    """Returns the SHA-256, hex, of the source of all modules that handle a hospital's rows.

    It is computed once a process: a hospital's warm process does so right after it has loaded them,
    so that the hash is that of the code which runs, not of files that were replaced since.
    """
    return _hash_of(reached_modules())


def source_hash(roots: Sequence[str], packages: Sequence[str]) -> str:
    """Returns the SHA-256, hex, of the source of all modules of ``packages`` that roots reach."""
    return _hash_of(reached_modules(roots, packages))


def reached_modules(
    roots: Sequence[str] = _ROOTS, packages: Sequence[str] = _PACKAGES
) -> dict[str, Path]:
    """Returns the modules that the roots reach, each with its source file.

    Raises:
        ModuleNotFoundError: a root is no module of the packages.
    """
    places = {name: _place_of(name) for name in packages}
    found: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found and (path := _source_of(name, places)) is not None:
            found[name] = path
            waiting += _imported(name, path, places)
    if lost := [root for root in roots if root not in found]:
        raise ModuleNotFoundError(f"no module {', '.join(lost)} to take the hash of")
    return found


def _hash_of(modules: Mapping[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, path in sorted(modules.items()):
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _place_of(package: str) -> Path:
    """The folder of an installed package, found without loading it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {package} to take the hash of")
    return Path(spec.submodule_search_locations[0])


def _source_of(name: str, places: Mapping[str, Path]) -> Path | None:
    """The file of a module; None for a name that is something inside a module."""
    package, *rest = name.split(".")
    place = places[package].joinpath(*rest)
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((file for file in candidates if file.is_file()), None)


def _imported(name: str, path: Path, places: Mapping[str, Path]) -> Iterator[str]:
    """What a module may load of the packages, with the packages that it lies in."""
    yield from _with_parents(name)
    for node in ast.walk(ast.parse(path.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for imported in names:
            if imported.split(".")[0] in places:
                yield from _with_parents(imported)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        yield ".".join(parts[:end])
