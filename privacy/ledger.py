"""What a hospital's ledger records: frozen values, without a price.

- a ``Reservation`` sets the whole plan of a training aside when the hospital accepts it;
- a ``Charge`` is what one attempt of a round releases of one part of the rows;
- a ``Release`` frees what a training has reserved and never used.

A row is either trained on or held out, as long as the hospital keeps its split key: ``split`` names
the key, so that rows that may have changed sides are noticed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, cast, get_args
from uuid import UUID

from privacy.errors import PlanError, UnknownMechanism
from privacy.mechanism_json import decode, encode
from privacy.mechanisms import Mechanism

Part = Literal["training", "held-out"]
Reason = Literal["closed", "person"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a hospital lets its patients lose.

    Attributes:
        epsilon_per_training: for one training.
        epsilon_total: for all trainings on one cohort, over all time.
        delta: the hospital's one constant, at which both are meant.

    Raises:
        PlanError: an epsilon that is no finite number above 0, or a delta outside (0, 1).
    """

    epsilon_per_training: float
    epsilon_total: float
    delta: float

    def __post_init__(self) -> None:
        for name in ("epsilon_per_training", "epsilon_total"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise PlanError(f"{name} {value}: must be a finite number above 0")
        if not 0 < self.delta < 1:
            raise PlanError(f"delta {self.delta}: must lie in (0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A training's whole plan, set aside.

    Attributes:
        training: the training.
        cohort: the patients, by the name that the hospital gave them.
        fingerprint: SHA-256, hex, of the table at that time; for the record, no key of the account.
        split: what names the split key.
        rounds: rounds of the plan.
        mechanisms: what the whole plan would release, by part.
        limits: under which it was accepted.
    """

    training: UUID
    cohort: str
    fingerprint: str
    split: str
    rounds: int
    mechanisms: Mapping[Part, Mechanism]
    limits: Limits | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mechanisms", MappingProxyType(dict(self.mechanisms)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What one attempt of a round released of one part of the rows.

    Attributes:
        training, cohort, fingerprint, split: as in ``Reservation``.
        number: the round's number in its training.
        round_id: identity of the attempt; with the part it is charged once.
        part: the rows it is about.
        mechanism: what was released.
        limits: under which it was accepted; None for a charge that a person made good, which no
            limit keeps out.
    """

    training: UUID
    cohort: str
    fingerprint: str
    split: str
    number: int
    round_id: UUID
    part: Part
    mechanism: Mechanism
    limits: Limits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What a training reserved and never used is free again.

    Attributes:
        training: the training.
        reason: ``closed`` when its closing evaluation was answered, ``person`` by command.
    """

    training: UUID
    reason: Reason


Entry: TypeAlias = Reservation | Charge | Release


def to_plain(entry: Entry) -> tuple[str, dict[str, Any]]:
    """Returns an entry's kind and its fields as plain JSON."""
    if isinstance(entry, Release):
        return "release", {"training": str(entry.training), "reason": entry.reason}
    if isinstance(entry, Reservation):
        mechanisms = {part: encode(m) for part, m in entry.mechanisms.items()}
        kind, own = "reservation", {"rounds": entry.rounds, "mechanisms": mechanisms}
    else:
        kind = "charge"
        own = {
            "number": entry.number,
            "round": str(entry.round_id),
            "part": entry.part,
            "mechanism": encode(entry.mechanism),
        }
    shared = {
        "training": str(entry.training),
        "cohort": entry.cohort,
        "fingerprint": entry.fingerprint,
        "split": entry.split,
        "limits": None if entry.limits is None else _plain_limits(entry.limits),
    }
    return kind, shared | own


def from_plain(kind: str, fields: Mapping[str, Any]) -> Entry:
    """Returns the entry that ``to_plain`` wrote.

    Raises:
        UnknownMechanism: an entry, or a mechanism in it, that this version does not know: it has no
            price, and so nothing after it has one.
    """
    if kind not in ("reservation", "charge", "release"):
        raise UnknownMechanism(f"an entry of the kind {kind!r}, which this version does not know")
    try:
        if kind == "release":
            return Release(training=UUID(fields["training"]), reason=_reason(fields["reason"]))
        limits = fields["limits"]
        shared: dict[str, Any] = {
            "training": UUID(fields["training"]),
            **{name: str(fields[name]) for name in ("cohort", "fingerprint", "split")},
            "limits": None if limits is None else Limits(**limits),
        }
        if kind == "reservation":
            mechanisms = {_part(name): decode(m) for name, m in fields["mechanisms"].items()}
            return Reservation(**shared, rounds=int(fields["rounds"]), mechanisms=mechanisms)
        return Charge(
            **shared,
            number=int(fields["number"]),
            round_id=UUID(fields["round"]),
            part=_part(fields["part"]),
            mechanism=decode(fields["mechanism"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UnknownMechanism):
            raise
        raise UnknownMechanism(f"a {kind!r} that this version cannot read: {error!r}") from None


def _plain_limits(limits: Limits) -> dict[str, float]:
    return {
        "epsilon_per_training": limits.epsilon_per_training,
        "epsilon_total": limits.epsilon_total,
        "delta": limits.delta,
    }


def _part(name: str) -> Part:
    for part in PARTS:
        if name == part:
            return part
    raise ValueError(f"part {name!r}: must be one of {', '.join(PARTS)}")


def _reason(name: str) -> Reason:
    for reason in get_args(Reason):
        if name == reason:
            return cast(Reason, reason)
    raise ValueError(f"reason {name!r}: must be closed or person")
