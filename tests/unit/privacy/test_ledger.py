"""The ledger's entries: what is written is read again, and nothing else is."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from privacy.errors import PlanError, UnknownMechanism
from privacy.ledger import Charge, Entry, Limits, Release, Reservation, from_plain, to_plain
from privacy.mechanisms import Gaussian, Repeated

TRAINING = UUID(int=1)
LIMITS = Limits(epsilon_per_training=4.0, epsilon_total=8.0, delta=1e-5)
ROWS: Any = {"training": TRAINING, "cohort": "all", "fingerprint": "f" * 64, "split": "5" * 64}
RESERVATION = Reservation(
    **ROWS,
    rounds=3,
    mechanisms={"training": Repeated(Gaussian(2.0), 3), "held-out": Repeated(Gaussian(4.0), 4)},
    limits=LIMITS,
)
CHARGE = Charge(
    **ROWS, number=2, round_id=UUID(int=9), part="held-out", mechanism=Gaussian(4.0), limits=LIMITS
)
RELEASE = Release(training=TRAINING, reason="closed")


@pytest.mark.parametrize(
    "entry",
    [
        RESERVATION,
        CHARGE,
        Charge(**ROWS, number=0, round_id=UUID(int=8), part="training", mechanism=Gaussian(1.0)),
        RELEASE,
        Release(training=TRAINING, reason="person"),
    ],
)
def test_what_is_written_is_read_again(entry: Entry) -> None:
    kind, fields = to_plain(entry)
    assert from_plain(kind, json.loads(json.dumps(fields))) == entry


def test_an_entry_says_what_it_is_about_in_plain_words() -> None:
    assert to_plain(CHARGE) == (
        "charge",
        {
            "training": "00000000-0000-0000-0000-000000000001",
            "cohort": "all",
            "fingerprint": "f" * 64,
            "split": "5" * 64,
            "limits": {"epsilon_per_training": 4.0, "epsilon_total": 8.0, "delta": 1e-5},
            "number": 2,
            "round": "00000000-0000-0000-0000-000000000009",
            "part": "held-out",
            "mechanism": {"kind": "Gaussian", "noise_multiplier": 4.0},
        },
    )


@pytest.mark.parametrize(
    ("entry", "changes"),
    [
        (CHARGE, {"training": "one"}),
        (CHARGE, {"part": "test"}),
        (CHARGE, {"mechanism": {"kind": "Laplace"}}),
        (CHARGE, {"limits": {"epsilon": 1}}),
        (CHARGE, {"round": None}),
        (RESERVATION, {"mechanisms": {"test": {"kind": "Gaussian", "noise_multiplier": 1.0}}}),
        (RESERVATION, {"mechanisms": []}),
        (RESERVATION, {"rounds": "many"}),
        (RELEASE, {"training": 7}),
        (RELEASE, {"reason": "whim"}),
    ],
)
def test_what_this_version_does_not_know_is_refused(entry: Entry, changes: dict[str, Any]) -> None:
    kind, fields = to_plain(entry)
    with pytest.raises(UnknownMechanism):
        from_plain(kind, fields | changes)


@pytest.mark.parametrize("entry", [RESERVATION, CHARGE, RELEASE])
def test_a_missing_field_and_another_kind_are_refused(entry: Entry) -> None:
    kind, fields = to_plain(entry)
    with pytest.raises(UnknownMechanism, match="the kind 'refund'"):
        from_plain("refund", fields)
    for name in fields:
        with pytest.raises(UnknownMechanism):
            from_plain(kind, {other: v for other, v in fields.items() if other != name})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epsilon_per_training": 0.0}, "epsilon_per_training 0.0"),
        ({"epsilon_total": float("inf")}, "epsilon_total inf"),
        ({"epsilon_total": float("nan")}, "epsilon_total nan"),
        ({"delta": 0.0}, "delta 0.0"),
        ({"delta": 1.0}, "delta 1.0"),
    ],
)
def test_limits_that_limit_nothing_are_refused(changes: dict[str, float], named: str) -> None:
    values = {"epsilon_per_training": 1.0, "epsilon_total": 2.0, "delta": 1e-5} | changes
    with pytest.raises(PlanError, match=named):
        Limits(**values)
