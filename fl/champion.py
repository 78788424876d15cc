"""Which version of a model is its champion: the rule alone.

    decision = decide(contender, champion, margin=0.005)
    decision.moves, decision.reason

The champion is what others load unless they ask for another version. It changes only when a new
version was measured in the same way and is better by a margin: the figures carry noise, and whoever
loads the champion should not get another model for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DEFAULT_MARGIN: Final = 0.005
"""Least difference of two AUCs that moves the champion."""

_CLOSING: Final = "AUC of the closing evaluation"
_PUBLIC: Final = "AUC on the public test set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """What is known of a registered version.

    Attributes:
        version: its version in the registry.
        purpose: what it was trained for.
        contract: hash of its data contract.
        auc: of the closing evaluation, on all hospitals' held-out rows; None without both classes.
        public_test: SHA-256 of the public test set it was scored on; None without one.
        public_auc: its AUC there.
    """

    version: str
    purpose: str
    contract: str
    auc: float | None = None
    public_test: str | None = None
    public_auc: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the champion moves to the new version, and why."""

    moves: bool
    reason: str


def decide(new: Contender, champion: Contender | None, *, margin: float) -> Decision:
    """Decides whether a new version becomes the champion.

    Like is compared with like: versions for the same purpose, under the same data contract, and by
    the same measure. Where the new version names a public test set that is the AUC on it, and
    otherwise the AUC of the closing evaluation.

    Args:
        new: the new version.
        champion: the present champion; None if there is none.
        margin: by how much the new version's AUC must be larger, from 0.
    """
    measure = _CLOSING if new.public_test is None else _PUBLIC
    ours = new.auc if new.public_test is None else new.public_auc
    if ours is None:
        return _stays(f"version {new.version} has no {measure}: it needs both classes")
    if champion is None:
        return Decision(True, f"version {new.version} is the first: {measure} {ours:.4f}")
    if differs := _difference(new, champion):
        return _stays(f"{differs}: nothing is compared")
    theirs = champion.auc if new.public_test is None else champion.public_auc
    if theirs is None:
        return _stays(f"version {champion.version}, the champion, has no {measure}")
    compared = (
        f"{measure} {ours:.4f} of version {new.version}, {theirs:.4f} of version "
        f"{champion.version}, the champion; margin {margin:g}"
    )
    # Under a margin of 0 too, an equal model is no reason to change. The rounding forgives what
    # subtraction loses.
    better = ours > theirs and round(ours - theirs, 12) >= margin
    return Decision(True, f"better: {compared}") if better else _stays(f"not better: {compared}")


def _difference(new: Contender, champion: Contender) -> str | None:
    """What makes two versions incomparable, in words; None if nothing does."""
    pairs = (
        ("purpose", new.purpose, champion.purpose),
        ("data contract", new.contract[:12], champion.contract[:12]),
    )
    for what, ours, theirs in pairs:
        if ours != theirs:
            return (
                f"{what} {ours} of version {new.version}, {theirs or 'unknown'} of version "
                f"{champion.version}, the champion"
            )
    if new.public_test is not None and new.public_test != champion.public_test:
        return (
            f"version {champion.version}, the champion, was not scored on the public test set "
            f"{new.public_test[:12]}"
        )
    return None


def _stays(reason: str) -> Decision:
    return Decision(False, reason)
