"""Mechanisms as plain JSON, for records that outlive a program.

    mechanism == decode(encode(mechanism))

A mechanism is an object with its class's name as ``kind`` and its fields. The names stay readable
for ever: whoever renames a class of ``privacy.mechanisms.Mechanism`` keeps reading the old name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, get_args

from privacy.errors import PlanError, UnknownMechanism
from privacy.mechanisms import Composed, Mechanism, Repeated

_LEAVES: Final[dict[str, Any]] = {
    kind.__name__: kind for kind in get_args(Mechanism) if kind not in (Repeated, Composed)
}
_FIELDS: Final = {
    name: tuple(field.name for field in dataclasses.fields(kind)) for name, kind in _LEAVES.items()
}


def encode(mechanism: Mechanism) -> dict[str, Any]:
    """Returns the mechanism as plain JSON.

    Raises:
        UnknownMechanism: it, or any part of it, is none of ``privacy.mechanisms``.

    >>> encode(Repeated(_LEAVES["Gaussian"](1.5), 3))
    {'kind': 'Repeated', 'mechanism': {'kind': 'Gaussian', 'noise_multiplier': 1.5}, 'count': 3}
    """
    kind = type(mechanism).__name__
    match mechanism:
        case Repeated(part, count):
            return {"kind": kind, "mechanism": encode(part), "count": count}
        case Composed(parts):
            return {"kind": kind, "parts": [encode(part) for part in parts]}
    if _LEAVES.get(kind) is not type(mechanism):
        raise UnknownMechanism(f"{kind}: no mechanism that can be recorded")
    return {"kind": kind} | {name: float(getattr(mechanism, name)) for name in _FIELDS[kind]}


def decode(value: object) -> Mechanism:
    """Returns the mechanism of plain JSON; whatever is not exactly one refuses.

    Raises:
        UnknownMechanism: an unknown kind, other fields than the kind has, or values out of bounds.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        raise UnknownMechanism(f"{value!r}: not a mechanism with a kind")
    kind, fields = value["kind"], {name: field for name, field in value.items() if name != "kind"}
    try:
        match kind, fields:
            case "Repeated", {"mechanism": part, "count": int(count), **rest} if not rest:
                if not isinstance(count, bool):
                    return Repeated(decode(part), count)
            case "Composed", {"parts": list(parts), **rest} if not rest:
                return Composed(tuple(decode(part) for part in parts))
            case _ if kind in _LEAVES and set(fields) == set(_FIELDS[kind]):
                if all(_is_number(field) for field in fields.values()):
                    mechanism: Mechanism = _LEAVES[kind](**fields)
                    return mechanism
    except PlanError as error:
        raise UnknownMechanism(f"{kind}: {error}") from None
    raise UnknownMechanism(
        f"{kind} with {fields!r}: this version knows no such mechanism, so it has no price"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
