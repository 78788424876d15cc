"""The hash of a model's code: what a person who approves a model has approved.

    model_code_hash(invitation.model)

A hospital computes it from the code that is installed at its own place, never from what the
coordinator says. It covers the specification (architecture, data contract, hyperparameters) and the
source of every module of ``fl`` and ``privacy`` that building, training, evaluating, noising and
masking the model reaches. The modules are found by following imports from a few roots, so that a
module that is added to the training later cannot be forgotten here.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import fl
import privacy
from fl.spec import ModelSpec

_ROOTS: Final = ("fl.client", "privacy.noise", "privacy.secagg.participant")
_PACKAGES: Final = {package.__name__: Path(package.__path__[0]) for package in (fl, privacy)}


def model_code_hash(spec: ModelSpec) -> str:
    """Returns the SHA-256, hex, of a model's specification and of the code that trains it.

    Name and description do not enter: they change nothing of what is trained.
    """
    content = spec.model_dump(mode="json", include={"architecture", "contract", "hyperparameters"})
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{training_code_hash()}\n{text}".encode()).hexdigest()


@cache
def training_code_hash() -> str:
    """Returns the SHA-256, hex, of the source of all modules that handle a hospital's rows.

    It is computed once a process: a hospital's warm process does so right after it has loaded them,
    so that the hash is that of the code which runs, not of files that were replaced since.
    """
    digest = hashlib.sha256()
    for name, path in sorted(reached_modules().items()):
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def reached_modules() -> dict[str, Path]:
    """Returns the modules that training a model reaches, each with its source file."""
    found: dict[str, Path] = {}
    waiting = list(_ROOTS)
    while waiting:
        name = waiting.pop()
        if name not in found and (path := _source_of(name)) is not None:
            found[name] = path
            waiting += _imported(name, path)
    return found


def _source_of(name: str) -> Path | None:
    """The file of a module; None for a name that is something inside a module."""
    package, *rest = name.split(".")
    place = _PACKAGES[package].joinpath(*rest)
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((file for file in candidates if file.is_file()), None)


def _imported(name: str, path: Path) -> Iterator[str]:
    """What a module may load of the two packages, with the packages that it lies in."""
    yield from _with_parents(name)
    for node in ast.walk(ast.parse(path.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for imported in names:
            if imported.split(".")[0] in _PACKAGES:
                yield from _with_parents(imported)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        yield ".".join(parts[:end])
