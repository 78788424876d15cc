"""The layers of confinement: which the system offers, and entering them for good.

Each layer is one function that either holds afterwards or raises. A throw-away process tries them
first, so that one that fails leaves nothing half done in the process that matters.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NoReturn, Self

from deployments.confine import landlock, namespaces, privileges
from deployments.confine.places import Places

_PIPE_READ: Final = 1 << 16

NETWORK: Final = "network"
TCP: Final = "tcp"
FILES: Final = "files"
SHARED_MEMORY: Final = "shared-memory"


class ConfinementFailed(RuntimeError):
    """The hospital's rules want a confinement that this system does not give; the text says why."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: in force, or the reason why not."""

    name: str
    in_force: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Confinement:
    """The layers, in the order in which they are entered."""

    layers: tuple[Layer, ...]

    @property
    def missing(self) -> tuple[Layer, ...]:
        """The layers that are not in force, less what another one does as well."""
        absent = tuple(layer for layer in self.layers if not layer.in_force)
        if self.holds(NETWORK):  # without a network there is no TCP to forbid
            return tuple(layer for layer in absent if layer.name != TCP)
        return absent

    def holds(self, name: str) -> bool:
        """Whether the layer of this name is in force."""
        return any(layer.name == name and layer.in_force for layer in self.layers)

    def lines(self) -> tuple[str, ...]:
        """A line a layer, for a person."""
        return tuple(
            f"{layer.name:<18} {'in force' if layer.in_force else 'MISSING'}: {layer.detail}"
            for layer in self.layers
        )

    def encode(self) -> str:
        """Returns the layers as JSON, for a log or another process."""
        return json.dumps([[layer.name, layer.in_force, layer.detail] for layer in self.layers])

    @classmethod
    def decode(cls, text: str) -> Self:
        """Reads what `encode` wrote."""
        return cls(tuple(Layer(name, force, detail) for name, force, detail in json.loads(text)))


def confinement_report(places: Places) -> Confinement:
    """Tries all layers in a process that ends right after; this one stays as it is.

    Raises:
        ConfinementFailed: confined, the table or the hospital's home cannot be used.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _try_out(write, places)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read(_PIPE_READ)
    _, status = os.waitpid(pid, 0)
    if not answer:
        raise ConfinementFailed(f"trying the confinement ended with status {status}")
    found = json.loads(answer)
    if found["unusable"] is not None:
        raise ConfinementFailed(
            f"confined, the hospital cannot use {found['unusable']}; its files must belong to the "
            "user that runs it, whose privileges as root do not count"
        )
    return Confinement.decode(found["layers"])


def require(report: Confinement) -> None:
    """Refuses to go on without all layers.

    Raises:
        ConfinementFailed: some are missing; the text names them with their reasons.
    """
    if report.missing:
        named = "; ".join(f"{layer.name}: {layer.detail}" for layer in report.missing)
        raise ConfinementFailed(
            f"FEDMED_CONFINEMENT=required, but this system does not give {named}. Give it, or set "
            "FEDMED_CONFINEMENT=available to run with the other layers"
        )


def enforce(report: Confinement, places: Places) -> None:
    """Enters the layers that the report found, in this process and all it will fork.

    Raises:
        OSError: a layer that could be entered when it was tried cannot be entered now.
    """
    steps = _steps(places)
    entered: set[str] = set()
    for layer in report.layers:
        if layer.in_force and layer.name in steps and layer.name not in entered:
            steps[layer.name]()
            entered.add(layer.name)


def _steps(places: Places) -> Mapping[str, Callable[[], str]]:
    """The layers in order; each step returns a word on what it did."""
    system = namespaces.mounts()
    return MappingProxyType(
        {
            NETWORK: _network,
            SHARED_MEMORY: lambda: _shared_memory(system),
            "capabilities": _capabilities,
            "no-new-privileges": _no_new_privileges,
            "core-files": _core_files,
            FILES: lambda: _files(places),
        }
    )


def _network() -> str:
    namespaces.leave_network()
    return "no interface; a Unix socket to the worker is the only way out"


def _shared_memory(system: str) -> str:
    namespaces.own_shared_memory(unlike=system)
    return "its own"


def _capabilities() -> str:
    privileges.drop_capabilities()
    return "none left"


def _no_new_privileges() -> str:
    privileges.no_new_privileges()
    return "setuid programs gain nothing"


def _core_files() -> str:
    privileges.no_core_files()
    return "none; children are not dumpable"


def _files(places: Places) -> str:
    abi = landlock.abi_version()
    landlock.restrict(places.rules(), abi=abi)
    return f"Landlock {abi}: table, keys, policy and installed code read only"


def _tried(places: Places) -> Iterator[Layer]:
    held: set[str] = set()
    for name, step in _steps(places).items():
        if name == SHARED_MEMORY and NETWORK not in held:
            yield Layer(name, False, "comes with the network layer")
            continue
        try:
            yield Layer(name, True, step())
            held.add(name)
        except OSError as error:
            yield Layer(name, False, str(error))
    yield from _of_landlock()


def _of_landlock() -> Iterator[Layer]:
    """What newer kernels' Landlock takes away together with the files."""
    try:
        abi = landlock.abi_version()
    except OSError as error:
        abi, reason = 0, str(error)
    else:
        reason = f"Landlock {abi} of this kernel cannot"
    for name, since, done in (
        (TCP, landlock.TCP_SINCE, "no connection, no listening"),
        ("signals", landlock.SCOPES_SINCE, "to its own children alone"),
    ):
        yield Layer(name, abi >= since, done if abi >= since else reason)


def _try_out(pipe: int, places: Places) -> NoReturn:
    """The throw-away process."""
    try:
        layers = Confinement(tuple(_tried(places)))
        answer = {"layers": layers.encode(), "unusable": _unusable(places)}
        os.write(pipe, json.dumps(answer).encode())
    finally:
        os._exit(0)


def _unusable(places: Places) -> str | None:
    for path in (places.data_path, places.home):
        try:
            os.listdir(path) if path.is_dir() else os.close(os.open(path, os.O_RDONLY))
        except OSError as error:
            return f"{path}: {error.strerror}"
    probe = places.temporary / f".tried-{os.getpid()}"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        probe.unlink()
    except OSError as error:
        return f"{probe}: {error.strerror}"
    return None
